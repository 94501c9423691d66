"""imgindex leak: images that stand in both of two sets."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit, remark
from imgindex.errors import UsageError

LEAKED = 1


def command(
    a: Annotated[str, typer.Argument(metavar="A", help="A folder or file that the index holds, say a training set.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one, say a test set.")],
    distance: Annotated[
        float | None,
        typer.Option(
            metavar="D",
            min=0,
            help="Show pairs up to this distance (Euclidean).",
            show_default="as --fail-over, or calibrated for the recipe",
        ),
    ] = None,
    fail_over: Annotated[
        float | None,
        typer.Option(metavar="D", min=0, help="Exit with 1 if a pair is exact, or not farther apart than this."),
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Images of B for each image of A, the nearest.")] = 10,
    index: options.Index = None,
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """List pairs of an image below A and one below B that are the same or near, nearest first.

    For tests of a split: --fail-over 0 allows no image to stand in both, --fail-over 0.3 no changed copy either.
    """
    from imgindex.index import ImageIndex
    from imgindex.reports.formats import Document

    if distance is not None and fail_over is not None and not fail_over <= distance:
        raise UsageError(
            f"--fail-over {fail_over:g} lies beyond --distance {distance:g}",
            hint="pairs so far apart are not looked for",
        )
    chosen = choose_format(format, json, out)
    with ImageIndex.open(options.find_index(index)) as opened:
        pairs = opened.leak(a, b, distance=fail_over if distance is None else distance, n=n)
    rows = [asdict(pair) for pair in pairs]
    columns = ["rank", "how", "distance", "a", "b", "a_id", "b_id"]
    if chosen == "paths":
        # Each image of A once: what would have to leave it.
        rows = [{"path": path} for path in dict.fromkeys(pair.a for pair in pairs)]
    emit(Document(rows, rows, columns[:5] if chosen == "table" else columns), chosen, out)
    over = sum(fail_over is not None and (pair.how == "exact" or pair.distance <= fail_over) for pair in pairs)
    if over:
        remark(f"{over} of {len(pairs)} pairs stand in both sets by --fail-over {fail_over:g}", quiet=quiet)
    elif not pairs:
        remark("no image stands in both sets", quiet=quiet)
    return LEAKED if over else 0
