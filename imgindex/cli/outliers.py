"""imgindex outliers: the images least like any other."""

from __future__ import annotations

from typing import Annotated

import typer

from imgindex.cli import gallery_options, options
from imgindex.cli.output import choose_format, emit, progress, with_short_paths
from imgindex.export import documents
from imgindex.export.tables import Table

COLUMNS = ["rank", "distance", "times", "path", "nearest", "id", "nearest_id", "reason"]


def command(
    n: Annotated[int, typer.Option("-n", metavar="N", min=1, help="How many images.")] = 20,
    index: options.Index = None,
    format: options.FormatName = None,
    json: options.Json = False,
    out: options.Out = None,
    html: gallery_options.Html = None,
    sheet: gallery_options.Sheet = None,
    preview: gallery_options.Preview = False,
    preview_as: gallery_options.PreviewAs = None,
    quiet: options.Quiet = False,
) -> int:
    """List the images that are least like any other.

    Each is listed with the image that is nearest to it, their distance, and the reason. `times`: the distance as a
    multiple of the median over all images without an exact copy. `reason`: what is odd about the distance, size, shape,
    format or colours, compared with all images.

    Examples:
      imgindex outliers -n 50
      imgindex outliers --sheet outliers.png
    """
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json, out)
    gallery = gallery_options.GalleryOptions(
        html=html,
        sheet=sheet,
        preview=preview,
        preview_as=preview_as,
        table=chosen == "table" and out is None,
        quiet=quiet,
    )
    with ImageIndex.open(options.find_index(index)) as opened:
        with progress(quiet=quiet) as on_progress:
            found = opened.outliers(n=n, on_progress=on_progress)
        gallery.show(opened, found)
    rows = documents.outliers(with_short_paths(outlier, "path", "nearest") for outlier in found)
    emit(Table(rows, rows, COLUMNS), chosen, out, optional=["id", "nearest_id", "times"])
    return 0
