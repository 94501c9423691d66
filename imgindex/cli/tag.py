"""imgindex tag: tags and metadata of images."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from imgindex.cli import options
from imgindex.cli.inputs import expand_paths
from imgindex.cli.output import choose_format, count, emit, naming, remark
from imgindex.errors import UsageError
from imgindex.export import documents
from imgindex.export.tables import Table

SEE_HELP = "see `imgindex tag --help`"


def command(
    name: Annotated[str | None, typer.Argument(metavar="TAG", help="A tag for the images.")] = None,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH", help="Images and folders of the index; - reads paths from stdin."),
    ] = None,
    null: options.Null = False,
    where: options.Where = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the tag off.")] = False,
    all: Annotated[bool, typer.Option("--list", help="List the tags, and how many images have each.")] = False,
    csv: Annotated[
        str | None, typer.Option(metavar="FILE", help="Import a table of metadata, joined by its first column.")
    ] = None,
    id: Annotated[
        str, typer.Option("--id", metavar="KIND", help="What the first column is: stem, name or path.")
    ] = "stem",
    index: options.Index = None,
    wait: options.Wait = False,
    format: options.FormatWithoutPaths = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """Tag images, list the tags, or import metadata.

    Images are named by paths or by a condition. Tags and metadata stay with an image that is renamed. They are columns
    of --where in other commands: --where "tags match 'cat'".

    Examples:
      imgindex tag cat photos/cat.jpg
      imgindex tag large --where "width > 1000"
    """
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json, out)
    _check(name, paths or [], where=where, remove=remove, all=all, csv=csv)
    named = expand_paths(paths or [], null=null, command="tag")
    unknown: tuple[str, ...] = ()
    with ImageIndex.open(options.find_index(index), wait=wait) as opened:
        if csv is not None:
            imported = opened.import_csv(csv, id=id)
            unknown = imported.unknown
            rows = [{"column": column, "images": imported.images} for column in imported.columns]
            table = Table(asdict(imported), rows, ["column", "images"])
        elif name is None:
            rows = documents.tags(opened.tags())
            table = Table(rows, rows, ["tag", "images"])
        else:
            report = asdict(opened.tag(name, named if paths else None, where=where, remove=remove))
            table = Table(report, [report], ["tag", "images", "changed"])
    emit(table, chosen, out)
    if unknown:
        remark(f"{count(len(unknown), 'row')} without an image in the index: {naming(unknown)}", quiet=quiet)
    return 0


def _check(name: str | None, paths: list[str], *, where: str | None, remove: bool, all: bool, csv: str | None) -> None:
    """Raise UsageError for a call that asks for nothing, or for several things at once."""
    if sum([name is not None, all, csv is not None]) != 1:
        raise UsageError("give one of a TAG with images, --list, or --csv FILE", hint=SEE_HELP)
    if name is None and (where is not None or remove):
        raise UsageError("--where and --remove have no effect without a TAG", hint=SEE_HELP)
    if name is not None and bool(paths) == (where is not None):
        raise UsageError("name the images of the tag either by PATH or by --where", hint=SEE_HELP)
