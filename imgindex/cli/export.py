"""imgindex export: vectors for other programs."""

from __future__ import annotations

from typing import Annotated

import typer

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit
from imgindex.reports.formats import Document


def command(
    out: Annotated[str, typer.Option(metavar="FILE", help="By its ending: .npz .npy .parquet .csv.")],
    index: options.Index = None,
    format: options.Formats = None,
    json: options.Json = False,
) -> int:
    """Write ids, paths and vectors to a file, in the order of ids."""
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json)
    with ImageIndex.open(options.find_index(index)) as opened:
        count = opened.export(out)
    row = {"path": out, "images": count}
    emit(Document(row, [row], ["path", "images"]), chosen)
    return 0
