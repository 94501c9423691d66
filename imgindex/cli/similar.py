"""imgindex similar: nearest neighbours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgindex.cli import gallery_options, options
from imgindex.cli.inputs import read_queries
from imgindex.cli.output import NAMED, choose_format, emit, emit_each, progress, remark, short_path, with_short_paths
from imgindex.errors import UnreadableImage
from imgindex.export import documents
from imgindex.export.tables import LINES, Table, printable

if TYPE_CHECKING:
    from imgindex.results import Answer
    from imgindex.types import Failure

COLUMNS = ["query", "rank", "distance", "path", "id"]


def command(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE",
            help="Images, of the index or not; A + B - C is a mix of images; - reads paths from stdin.",
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", metavar="N", min=1, help="Matches of each image.")] = 10,
    max_distance: Annotated[
        float | None, typer.Option(metavar="D", min=0, help="No match is farther than this (Euclidean).")
    ] = None,
    include_self: Annotated[bool, typer.Option("--include-self", help="The image itself may be a match.")] = False,
    rerank: Annotated[
        bool,
        typer.Option("--rerank", help="Average each vector with its 8 nearest; distances are between averages then."),
    ] = False,
    where: options.Where = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE", help="Read images from a file: a path a line, or queries as .jsonl."),
    ] = None,
    null: options.Null = False,
    index: options.Index = None,
    weights: options.Weights = None,
    device: options.DeviceName = "auto",
    precision: options.Precision = "auto",
    format: options.FormatName = None,
    json: options.Json = False,
    out: options.Out = None,
    html: gallery_options.Html = None,
    sheet: gallery_options.Sheet = None,
    preview: gallery_options.Preview = False,
    preview_as: gallery_options.PreviewAs = None,
    quiet: options.Quiet = False,
) -> int:
    """Find the images nearest to each given image.

    An image of the index is answered from its stored vector at once; another one is embedded first. + or - between two
    images searches near the sum or the difference of their vectors. As jsonl, csv, tsv and paths, each answer is
    printed before the next one is computed.

    Examples:
      imgindex similar photos/cat.jpg -n 20
      imgindex similar photos/cat.jpg --html cats.html
    """
    from imgindex.index import ImageIndex
    from imgindex.types import Engine

    chosen = choose_format(format, json, out)
    gallery = gallery_options.GalleryOptions(
        html=html,
        sheet=sheet,
        preview=preview,
        preview_as=preview_as,
        table=chosen == "table" and out is None,
        quiet=quiet,
    )
    queries = read_queries(images or [], source, null=null)
    engine = Engine(device, precision)
    failed: list[Failure] = []
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(ImageIndex.open(options.find_index(index), weights=weights, engine=engine))
        with progress(quiet=quiet or not rerank) as on_progress:
            found = opened.each_answer(
                queries,
                n=n,
                max_distance=max_distance,
                include_self=include_self,
                where=where,
                rerank=rerank,
                on_progress=on_progress,
            )
            # Closed before the index: a generator that stopped half-way still holds its snapshot of the catalogue.
            stack.enter_context(contextlib.closing(found))
            first = list(islice(found, 1))  # averages are made before the first answer
        answers: Iterable[Answer] = chain(first, found)
        if gallery.wanted:
            answers = list(answers)
            gallery.show(opened, answers)
        answered = _without_failures(map(_with_short_paths, answers), failed, quiet=quiet)
        if chosen in LINES:
            emit_each((Table([documents.answer(answer)], _rows(answer), COLUMNS) for answer in answered), chosen, out)
        else:
            complete = list(answered)
            rows = [row for answer in complete for row in _rows(answer)]
            columns = COLUMNS[1:] if chosen == "table" and len(complete) + len(failed) == 1 else COLUMNS
            emit(Table([documents.answer(answer) for answer in complete], rows, columns), chosen, out, optional=["id"])
    return options.SOME_FAILED if failed else 0


def _without_failures(answers: Iterable[Answer], failed: list[Failure], *, quiet: bool) -> Iterator[Answer]:
    """Yield the answers that have matches, and collect and report the failures.

    Raises UnreadableImage, with the failures in one message, if no image could be read. They are therefore not reported
    before the first answer.
    """
    reported = 0
    any_answered = False
    for answer in answers:
        if answer.failure is not None:
            failed.append(answer.failure)
        else:
            any_answered = True
            yield answer
        if any_answered:
            for failure in failed[reported:]:
                remark(f"failed: {printable(failure.path)}: {printable(failure.reason)}", quiet=quiet)
            reported = len(failed)
    if failed and not any_answered:
        lines = [f"cannot read {short_path(failure.path)}: {failure.reason}" for failure in failed[:NAMED]]
        if len(failed) > NAMED:
            lines.append(f"and {len(failed) - NAMED:,} more")
        raise UnreadableImage("; ".join(lines))


def _with_short_paths(answer: Answer) -> Answer:
    return replace(answer, matches=[with_short_paths(match, "path") for match in answer.matches])


def _rows(answer: Answer) -> list[dict[str, Any]]:
    return [{"query": answer.query, **asdict(match)} for match in answer.matches]
