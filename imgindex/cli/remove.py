"""imgindex remove: take images out."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit, remark
from imgindex.reports.formats import Document


def command(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Images and folders that the index has.")],
    index: options.Index = None,
    wait: options.Wait = False,
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """Take images out of the index and forget their failures; the files themselves stay.

    An image that still lies in a folder comes back with the next `imgindex add` of that folder.
    """
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json, out)
    with ImageIndex.open(options.find_index(index)) as opened:
        opened.wait = wait
        rows = [{"id": row["id"], "path": row["path"]} for row in map(asdict, opened.remove(paths))]
    emit(Document(rows, rows, ["id", "path"]), chosen, out)
    remark(f"{len(rows)} images taken out; their files were not touched", quiet=quiet)
    return 0
