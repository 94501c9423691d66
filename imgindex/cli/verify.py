"""imgindex verify: is the index sound?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit, remark
from imgindex.reports.formats import Document

DAMAGED = 1


def command(
    full: Annotated[bool, typer.Option("--full", help="Check every vector against its CRC32 too.")] = False,
    index: options.Index = None,
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """Check the index against its catalogue; changes nothing, and ends with 1 when something is damaged."""
    from imgindex.storage.check import check

    chosen = choose_format(format, json, out)
    report = check(options.find_index(index), full=full)  # which looks into what ImageIndex would not open
    rows = [{**asdict(problem), "path": problem.subject} for problem in report.problems]
    if rows or chosen != "table":
        emit(Document({"ok": report.ok, **asdict(report)}, rows, ["kind", "subject", "detail"]), chosen, out)
    read = f", {report.vectors_read} vectors read" if full else ""
    checked = f"{report.images} images in {report.segments} segments{read}"
    found = "sound" if report.ok else f"{len(rows)} problem{'s' if len(rows) > 1 else ''}; `imgindex repair` mends"
    remark(f"{checked}: {found}", quiet=quiet)
    return 0 if report.ok else DAMAGED
