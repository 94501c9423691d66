"""imgindex check: which files are new to the index."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any

import typer

from imgindex.cli import options
from imgindex.cli.naming import named
from imgindex.cli.output import choose_format, emit, progress, remark, show_failures


def command(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Files and folders; - reads paths from stdin.")],
    distance: options.NearDistance = None,
    rotations: options.Rotations = False,
    flips: options.Flips = False,
    null: Annotated[bool, typer.Option("-0", "--null", help="Paths from stdin end in NUL, not newline.")] = False,
    index: options.Index = None,
    weights: options.Weights = None,
    device: options.DeviceName = "auto",
    precision: options.Precision = "auto",
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """Compare files with the index and add none: each is new, exact (an image has its bytes) or near an image.

    Of a new one, too, the nearest image is shown. --format paths prints the new ones.
    """
    from imgindex.index import ImageIndex
    from imgindex.reports.formats import Document
    from imgindex.types import Engine, Failure

    chosen = choose_format(format, json, out)
    roots = named(paths, null=null, command="check")
    engine = Engine(device, precision)
    with (
        ImageIndex.open(options.find_index(index), weights=weights, engine=engine) as opened,
        progress(quiet=quiet) as on_progress,
    ):
        checked = opened.check(roots, distance=distance, rotations=rotations, flips=flips, on_progress=on_progress)
    data = [asdict(one) for one in checked]
    rows: list[dict[str, Any]] = [{name: "" if value is None else value for name, value in one.items()} for one in data]
    if chosen == "paths":
        rows = [row for row in rows if row["status"] == "new"]
    columns = ["status", "path", "match", "distance", "turned", "id", "reason"]
    if chosen == "table":
        columns = [name for name in columns if name not in ("turned", "id", "reason") or _is_said(rows, name)]
        rows = [{**row, "distance": f"{row['distance']:.4f}" if row["match"] else ""} for row in rows]
    emit(Document(data, rows, columns), chosen, out)
    failures = tuple(Failure(one.path, "read", one.reason) for one in checked if one.status == "failed")
    if chosen != "table":
        show_failures(failures, 0, quiet=quiet)
    counts = Counter(one.status for one in checked)
    remark(", ".join(f"{counts[status]} {status}" for status in counts) or "no images there", quiet=quiet)
    return options.SOME_FAILED if failures else 0


def _is_said(rows: list[dict[str, Any]], name: str) -> bool:
    return name != "id" and any(row[name] for row in rows)
