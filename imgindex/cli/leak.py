"""imgindex leak: images that are in both of two sets."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit, remark, with_short_paths
from imgindex.errors import UsageError

COLUMNS = ["rank", "how", "distance", "a", "b", "a_id", "b_id"]


def command(
    a: Annotated[str, typer.Argument(metavar="A", help="A folder or file of the index, such as a training set.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one, such as a test set.")],
    distance: Annotated[
        float | None,
        typer.Option(
            metavar="D",
            min=0,
            help="List pairs up to this distance (Euclidean).",
            show_default="as --fail-within, or calibrated for the recipe",
        ),
    ] = None,
    fail_within: Annotated[
        float | None,
        typer.Option(metavar="D", min=0, help="Exit with 4 if a pair is exact, or at most this far apart."),
    ] = None,
    n: Annotated[int, typer.Option("-n", metavar="N", min=1, help="Pairs of each image of A: its nearest in B.")] = 10,
    index: options.Index = None,
    format: options.FormatName = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """List pairs of an image in A and a near one in B.

    The nearest pairs come first. --fail-within is for tests of a split: with 0 no image may be in both sets, with 0.3
    no changed copy either. The command then exits with 4 if the sets leak.

    Examples:
      imgindex leak train test
      imgindex leak train test --fail-within 0.3
    """
    from imgindex.export.tables import Table
    from imgindex.index import ImageIndex

    if distance is not None and fail_within is not None and not fail_within <= distance:
        raise UsageError(
            f"--fail-within {fail_within:g} is larger than --distance {distance:g}",
            hint="pairs farther apart than --distance are not searched for: leave --distance out",
        )
    chosen = choose_format(format, json, out)
    with ImageIndex.open(options.find_index(index)) as opened:
        found = opened.leak(a, b, distance=fail_within if distance is None else distance, n=n)
    pairs = [with_short_paths(pair, "a", "b") for pair in found]
    rows = [asdict(pair) for pair in pairs]
    if chosen == "paths":
        # Each image of A once: those that would have to leave A.
        rows = [{"path": path} for path in dict.fromkeys(pair.a for pair in pairs)]
    emit(Table(rows, rows, COLUMNS[:5] if chosen == "table" else COLUMNS), chosen, out)
    leaks = sum(fail_within is not None and (pair.how == "exact" or pair.distance <= fail_within) for pair in pairs)
    if leaks:
        are = "1 pair of images is" if leaks == 1 else f"{leaks:,} pairs of images are"
        remark(f"{are} at most {fail_within:g} apart: the sets leak", quiet=quiet)
    elif not pairs:
        remark("no image is in both sets", quiet=quiet)
    return options.LEAK_FOUND if leaks else 0
