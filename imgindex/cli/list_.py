"""imgindex list: the images."""

from __future__ import annotations

from dataclasses import asdict

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit
from imgindex.reports.formats import Document

COLUMNS = ["id", "path", "width", "height", "format", "size"]


def command(
    where: options.Where = None,
    index: options.Index = None,
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
) -> int:
    """List the images that the index shows, in the order of their ids, with their tags where there are any."""
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json, out)
    with ImageIndex.open(options.find_index(index)) as opened:
        rows = [asdict(image) for image in opened.images(where=where)]
    tagged = any(row["tags"] for row in rows)
    lines = [{**row, "tags": ",".join(row["tags"])} for row in rows]
    emit(Document(rows, lines, [*COLUMNS, *["tags"] * tagged]), chosen, out)
    return 0
