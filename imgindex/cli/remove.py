"""imgindex remove: images out of the index."""

from __future__ import annotations

from typing import Annotated

import typer

from imgindex.cli import options
from imgindex.cli.inputs import expand_paths
from imgindex.cli.output import choose_format, count, emit, remark, short_path
from imgindex.export.tables import Table


def command(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Images of the index, and folders of them; - reads paths from stdin."),
    ],
    null: options.Null = False,
    index: options.Index = None,
    wait: options.Wait = False,
    format: options.FormatName = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """Take images out of the index; the files stay.

    Their failures are forgotten too. An image whose file is still there comes back with the next `imgindex add` of its
    folder.

    Examples:
      imgindex remove photos/cat.jpg
      imgindex remove photos/2019 photos/2020
    """
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json, out)
    roots = expand_paths(paths, null=null, command="remove")
    with ImageIndex.open(options.find_index(index), wait=wait) as opened:
        rows = [{"id": image.id, "path": short_path(image.path)} for image in opened.remove(roots)]
    emit(Table(rows, rows, ["id", "path"]), chosen, out)
    remark(f"{count(len(rows), 'image')} taken out of the index; the files are untouched", quiet=quiet)
    return 0
