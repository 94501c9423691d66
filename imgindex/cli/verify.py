"""imgindex verify: whether the index is sound."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from imgindex.cli import options
from imgindex.cli.output import choose_format, count, emit, progress, remark
from imgindex.export.tables import Table

DAMAGED = 1


def command(
    full: Annotated[bool, typer.Option("--full", help="Also check every vector against its CRC32.")] = False,
    index: options.Index = None,
    format: options.FormatName = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """Check the index for damage; change nothing.

    The catalogue, the segments and the search index are compared. The command exits with 1 if something is damaged;
    `imgindex repair` repairs it.

    Examples:
      imgindex verify
      imgindex verify --full
    """
    from imgindex.storage.verify import check

    chosen = choose_format(format, json, out)
    # Not by ImageIndex: it would not open a damaged index.
    with progress(quiet=quiet) as on_progress:
        report = check(options.find_index(index), full=full, on_progress=on_progress)
    rows = [{**asdict(problem), "path": problem.subject} for problem in report.problems]
    if rows or chosen != "table":
        emit(Table({"ok": report.ok, **asdict(report)}, rows, ["kind", "subject", "detail"]), chosen, out)
    checked = f"{count(report.images, 'image')} in {count(report.segments, 'segment')}"
    if full:
        checked += f", {count(report.vectors_read, 'vector')} read"
    result = "sound" if report.ok else f"{count(len(rows), 'problem')}; run `imgindex repair`"
    remark(f"{checked}: {result}", quiet=quiet)
    return 0 if report.ok else DAMAGED
