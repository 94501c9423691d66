"""imgindex similar: nearest neighbours."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgindex.cli import looking, options
from imgindex.cli.naming import questions
from imgindex.cli.output import choose_format, emit, emit_each, remark
from imgindex.errors import UnreadableImage
from imgindex.reports.formats import LINES, Document
from imgindex.storage.paths import shown

if TYPE_CHECKING:
    from imgindex.types import Answer, Failure

COLUMNS = ["query", "rank", "distance", "path", "id"]
SHOWN = 5


def command(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE",
            help="Images to compare with, indexed or not; A + B - C asks for a mix; - reads paths from stdin.",
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Matches of each image.")] = 10,
    max_distance: Annotated[
        float | None, typer.Option(metavar="D", min=0, help="No match farther than this (Euclidean).")
    ] = None,
    include_self: Annotated[bool, typer.Option("--include-self", help="The image itself is a match too.")] = False,
    where: options.Where = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE", help="Compare with the images of a file: a path a line, or .jsonl."),
    ] = None,
    null: Annotated[bool, typer.Option("-0", "--null", help="Paths from stdin or --from end in NUL.")] = False,
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

    An indexed image is answered from its stored vector at once; another one is embedded first. A word + or - between
    two images asks for what is near to the sum of their vectors. As jsonl, csv, tsv and paths, answers are printed
    while the next ones are sought.
    """
    from imgindex.index import ImageIndex
    from imgindex.types import Engine

    chosen = choose_format(format, json, out)
    looks = looking.wanted(html, sheet, preview, preview_as, table=chosen == "table" and out is None, quiet=quiet)
    asked = questions(images or [], source, null=null)
    engine = Engine(device, precision)
    failed: list[Failure] = []
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(ImageIndex.open(options.find_index(index), weights=weights, engine=engine))
        found = opened.each_answer(asked, n=n, max_distance=max_distance, include_self=include_self, where=where)
        # Before the index is: whoever stops in the middle leaves its state of the index open otherwise.
        answers: Iterable[Answer] = stack.enter_context(contextlib.closing(found))
        if looks:
            answers = list(answers)
            looking.show(opened, opened.matches_page(answers), looks)
        sound = _sound(answers, failed, quiet)
        if chosen in LINES:
            emit_each((Document([_data(answer)], _rows(answer), COLUMNS) for answer in sound), chosen, out)
        else:
            able = list(sound)
            rows = [row for answer in able for row in _rows(answer)]
            columns = COLUMNS[1:] if chosen == "table" and len(able) + len(failed) == 1 else COLUMNS
            emit(Document(list(map(_data, able)), rows, columns), chosen, out)
    return options.SOME_FAILED if failed else 0


def _sound(answers: Iterable[Answer], failed: list[Failure], quiet: bool) -> Iterator[Answer]:
    """Yield the answers without failure, and tell of the others; raise UnreadableImage when there are others alone."""
    told = -1  # before the first sound answer: it may become an error that is told of as one
    for answer in answers:
        if answer.failure is not None:
            failed.append(answer.failure)
        else:
            told = max(told, 0)
            yield answer
        if told >= 0:
            for failure in failed[told:]:
                remark(f"failed: {failure.path}: {failure.reason}", quiet=quiet)
            told = len(failed)
    if failed and told < 0:
        said = [f"cannot read {_name(failure)}: {failure.reason}" for failure in failed[:SHOWN]]
        raise UnreadableImage("; ".join(said + [f"and {len(failed) - SHOWN} more"] * (len(failed) > SHOWN)))


def _name(failure: Failure) -> str:
    return shown(failure.path, here=os.getcwd())


def _data(answer: Answer) -> dict[str, Any]:
    return {"query": answer.query, "matches": [asdict(match) for match in answer.matches]}


def _rows(answer: Answer) -> list[dict[str, Any]]:
    return [{"query": answer.query, **asdict(match)} for match in answer.matches]
