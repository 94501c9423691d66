"""imgindex tag: what people say of images."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit, remark
from imgindex.errors import UsageError
from imgindex.reports.formats import Document

if TYPE_CHECKING:
    from imgindex.index import ImageIndex

SHOWN = 5


def command(
    name: Annotated[str | None, typer.Argument(metavar="TAG", help="What to say of the images.")] = None,
    paths: Annotated[list[str] | None, typer.Argument(metavar="PATH", help="Images and folders of the index.")] = None,
    where: options.Where = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the tag off.")] = False,
    all: Annotated[bool, typer.Option("--list", help="List the tags, and how many images have each.")] = False,
    csv: Annotated[
        str | None, typer.Option(metavar="FILE", help="Import a table of metadata, joined by its first column.")
    ] = None,
    id: Annotated[str, typer.Option("--id", metavar="KIND", help="What that column is: stem, name or path.")] = "stem",
    index: options.Index = None,
    wait: options.Wait = False,
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """Put a tag on images by path or condition, list the tags, or import metadata from a CSV.

    Tags and metadata stay with an image that is renamed; --where asks for them on other commands: tags match 'cat'.
    """
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json, out)
    _check(name, paths or [], where, remove, all, csv)
    with ImageIndex.open(options.find_index(index)) as opened:
        opened.wait = wait
        if csv is not None:
            document, said = _imported(opened, csv, id)
        elif name is None:
            rows = [{"tag": tag, "images": count} for tag, count in opened.tags().items()]
            document, said = Document(rows, rows, ["tag", "images"]), ""
        else:
            report = asdict(opened.tag(name, paths or None, where=where, remove=remove))
            document = Document(report, [report], ["tag", "images", "changed"])
            said = ""
    emit(document, chosen, out)
    if said:
        remark(said, quiet=quiet)
    return 0


def _check(name: str | None, paths: list[str], where: str | None, remove: bool, all: bool, csv: str | None) -> None:
    """Raise UsageError for a call that asks for nothing, or for several things at once."""
    wanted = [name is not None, all, csv is not None]
    if sum(wanted) != 1:
        raise UsageError("say one thing: a TAG and images, --list, or --csv FILE", hint="see `imgindex tag --help`")
    if name is None and (where is not None or remove):
        raise UsageError("--where and --remove speak of a TAG", hint="see `imgindex tag --help`")
    if name is not None and bool(paths) == (where is not None):
        raise UsageError("name the images of a tag by PATH, or by a condition with --where")


def _imported(opened: ImageIndex, csv: str, id: str) -> tuple[Document, str]:
    report = opened.import_csv(csv, id=id)
    rows = [{"column": column, "images": report.images} for column in report.columns]
    said = ""
    if report.unknown:
        more = f" and {len(report.unknown) - SHOWN} more" if len(report.unknown) > SHOWN else ""
        ids = ", ".join(map(repr, report.unknown[:SHOWN]))
        said = f"of no image of the index are {len(report.unknown)} rows: {ids}{more}"
    return Document(asdict(report), rows, ["column", "images"]), said
