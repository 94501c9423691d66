"""imgindex list: the images."""

from __future__ import annotations

from dataclasses import asdict

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit
from imgindex.reports.formats import Document

COLUMNS = ["id", "path", "width", "height", "format", "size"]


def command(
    index: options.Index = None,
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
) -> int:
    """List the images that the index shows, in the order of their ids."""
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json, out)
    with ImageIndex.open(options.find_index(index)) as opened:
        rows = [asdict(image) for image in opened.images()]
    emit(Document(rows, rows, COLUMNS), chosen, out)
    return 0
