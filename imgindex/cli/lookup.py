"""imgindex lookup: which files are new to the index."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any

import typer

from imgindex.cli import options
from imgindex.cli.inputs import expand_paths
from imgindex.cli.output import choose_format, emit, progress, remark, show_failures, with_short_paths

COLUMNS = ["how", "path", "match", "distance", "turned", "id", "reason"]


def command(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Files and folders; - reads paths from stdin.")],
    similar: options.Similar = False,
    distance: options.NearDistance = None,
    rotations: options.Rotations = False,
    flips: options.Flips = False,
    null: options.Null = False,
    index: options.Index = None,
    weights: options.Weights = None,
    device: options.DeviceName = "auto",
    precision: options.Precision = "auto",
    format: options.FormatName = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """Compare files with the index, and add none.

    Each file is new, the same (an image of the index has the same bytes), or a copy (one shows the same picture, which
    was verified on the pixels). The nearest image is also shown for a new file. --format paths prints the new files.

    Examples:
      imgindex lookup camera
      imgindex lookup camera --format paths
    """
    from imgindex.export.tables import Table
    from imgindex.index import ImageIndex
    from imgindex.types import Engine, Failure

    options.check_distance(distance, similar=similar)
    chosen = choose_format(format, json, out)
    roots = expand_paths(paths, null=null, command="lookup")
    engine = Engine(device, precision)
    with (
        ImageIndex.open(options.find_index(index), weights=weights, engine=engine) as opened,
        progress(quiet=quiet) as on_progress,
    ):
        found = opened.lookup(
            roots, similar=similar, distance=distance, rotations=rotations, flips=flips, on_progress=on_progress
        )
    results = [with_short_paths(one, "path", "match") for one in found]
    data = [asdict(one) for one in results]
    rows: list[dict[str, Any]] = [{name: "" if value is None else value for name, value in one.items()} for one in data]
    columns = COLUMNS
    if chosen == "paths":
        rows = [row for row in rows if row["how"] == "new"]
    if chosen == "table":
        # The table has no ids, and of the rarer columns only those that are not empty.
        rare = [name for name in ("turned", "reason") if not any(row[name] for row in rows)]
        columns = [name for name in COLUMNS if name not in ("id", *rare)]
        rows = [{**row, "distance": f"{row['distance']:.4f}" if row["match"] else ""} for row in rows]
    emit(Table(data, rows, columns), chosen, out)
    failures = tuple(Failure(one.path, "read", one.reason) for one in results if one.how == "failed")
    if chosen != "table":
        show_failures(failures, 0, quiet=quiet)
    counts = Counter(one.how for one in results)
    remark(", ".join(f"{number:,} {status}" for status, number in counts.items()) or "no images found", quiet=quiet)
    return options.SOME_FAILED if failures else 0
