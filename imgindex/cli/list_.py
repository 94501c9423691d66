"""imgindex list: the images."""

from __future__ import annotations

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit, size, with_short_paths
from imgindex.export import documents
from imgindex.export.tables import Table

COLUMNS = ["id", "path", "width", "height", "format", "size"]


def command(
    where: options.Where = None,
    index: options.Index = None,
    format: options.FormatName = None,
    json: options.Json = False,
    out: options.Out = None,
) -> int:
    """List the images of the index.

    They are in the order of their ids, with their tags if any image has tags.

    Examples:
      imgindex list --where "width > 1000"
      imgindex list --out images.csv
    """
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json, out)
    with ImageIndex.open(options.find_index(index)) as opened:
        data = documents.images(with_short_paths(image, "path") for image in opened.images(where=where))
    has_tags = any(image["tags"] for image in data)
    rows = [{**image, "tags": ",".join(image["tags"])} for image in data]
    if chosen == "table":
        rows = [{**row, "size": size(row["size"])} for row in rows]
    emit(Table(data, rows, [*COLUMNS, *["tags"] * has_tags]), chosen, out, optional=["format", "id"])
    return 0
