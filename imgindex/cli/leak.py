"""imgindex leak: images that are in both of two sets."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from imgindex.cli import options
from imgindex.cli.output import choose_format, count, emit, progress, remark, show_failures, with_short_paths
from imgindex.errors import UsageError

COLUMNS = ["rank", "how", "distance", "a", "b", "a_id", "b_id"]


def command(
    a: Annotated[str, typer.Argument(metavar="A", help="A folder or file of the index, such as a training set.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one, such as a test set.")],
    similar: options.Similar = False,
    distance: options.NearDistance = None,
    fail_within: Annotated[
        float | None,
        typer.Option(
            metavar="D",
            min=0,
            help="Exit with 4 if a pair is the same or a copy, or similar and at most this far apart.",
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", metavar="N", min=1, help="Pairs of each image of A: its nearest in B.")] = 10,
    index: options.Index = None,
    format: options.FormatName = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """List pictures that are in A and in B.

    The nearest pairs come first, each with its grade: the same bytes, or a copy, which was verified on the pixels.
    --fail-within is for tests of a split: with 0 no picture may be in both sets, changed copies included; with 0.3 no
    image may be nearer than that to one of the other set. The command then exits with 4 if the sets leak.

    Examples:
      imgindex leak train test
      imgindex leak train test --fail-within 0
    """
    from imgindex.export.tables import Table
    from imgindex.index import ImageIndex

    options.check_distance(distance, similar=similar)
    if distance is not None and fail_within is not None and not fail_within <= distance:
        raise UsageError(
            f"--fail-within {fail_within:g} is larger than --distance {distance:g}",
            hint="pairs farther apart than --distance are not searched for: leave --distance out",
        )
    if fail_within and distance is None:
        similar, distance = True, fail_within
    chosen = choose_format(format, json, out)
    with ImageIndex.open(options.find_index(index)) as opened, progress(quiet=quiet) as on_progress:
        found = opened.leak(a, b, similar=similar, distance=distance, n=n, on_progress=on_progress)
    pairs = [with_short_paths(pair, "a", "b") for pair in found]
    rows = [asdict(pair) for pair in pairs]
    if chosen == "paths":
        # Each image of A once: those that would have to leave A.
        rows = [{"path": path} for path in dict.fromkeys(pair.a for pair in pairs)]
    emit(Table(rows, rows, COLUMNS[:5] if chosen == "table" else COLUMNS), chosen, out)
    leaks = sum(fail_within is not None and (pair.how != "similar" or pair.distance <= fail_within) for pair in pairs)
    if leaks:
        near = f" or within {fail_within:g}" if fail_within else ""
        remark(f"{count(leaks, 'pair')} of the same picture{near}: the sets leak", quiet=quiet)
    elif not pairs:
        remark("no picture is in both sets", quiet=quiet)
    show_failures(tuple(with_short_paths(one, "path") for one in found.failures), 0, quiet=quiet)
    if leaks:
        return options.LEAK_FOUND
    return options.SOME_FAILED if found.failures else 0
