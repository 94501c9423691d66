"""imgindex similar: nearest neighbours."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgindex.cli import looking, options
from imgindex.cli.output import choose_format, emit, remark
from imgindex.errors import UnreadableImage

if TYPE_CHECKING:
    from imgindex.types import Answer


def command(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Images to compare with, indexed or not.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Matches of each image.")] = 10,
    max_distance: Annotated[
        float | None, typer.Option(metavar="D", min=0, help="No match farther than this (Euclidean).")
    ] = None,
    include_self: Annotated[bool, typer.Option("--include-self", help="The image itself is a match too.")] = False,
    index: options.Index = None,
    weights: options.Weights = None,
    device: options.DeviceName = "auto",
    precision: options.Precision = "auto",
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
    html: looking.Html = None,
    sheet: looking.Sheet = None,
    preview: looking.Preview = False,
    preview_as: looking.PreviewAs = None,
    quiet: options.Quiet = False,
) -> int:
    """Find the images nearest to each given one, nearest first.

    An indexed image is answered from its stored vector at once; another one is embedded first.
    """
    from imgindex.index import ImageIndex
    from imgindex.types import Engine

    chosen = choose_format(format, json, out)
    looks = looking.wanted(html, sheet, preview, preview_as, table=chosen == "table" and out is None, quiet=quiet)
    engine = Engine(device, precision)
    with ImageIndex.open(options.find_index(index), weights=weights, engine=engine) as opened:
        answers = opened.answers(images, n=n, max_distance=max_distance, include_self=include_self)
        failed = [answer.failure for answer in answers if answer.failure is not None]
        if len(failed) == len(answers):
            raise UnreadableImage(
                "; ".join(
                    f"cannot read {answer.query}: {failure.reason}"
                    for answer, failure in zip(answers, failed, strict=True)
                )
            )
        if looks:
            looking.show(opened, opened.matches_page(answers), looks)
    for failure in failed:
        remark(f"failed: {failure.path}: {failure.reason}", quiet=quiet)
    _show(answers, chosen, out)
    return options.SOME_FAILED if failed else 0


def _show(answers: list[Answer], format: str, out: str | None) -> None:
    from imgindex.reports.formats import Document

    data: list[dict[str, Any]] = [
        {"query": answer.query, "matches": [asdict(match) for match in answer.matches]}
        for answer in answers
        if answer.failure is None
    ]
    rows = [{"query": one["query"], **match} for one in data for match in one["matches"]]
    columns = ["query", "rank", "distance", "path", "id"]
    if format == "table" and len(answers) == 1:
        columns = columns[1:]
    emit(Document(data, rows, columns), format, out)
