"""imgindex outliers: the images least like any other."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from imgindex.cli import looking, options
from imgindex.cli.output import choose_format, emit
from imgindex.reports.formats import Document


def command(
    n: Annotated[int, typer.Option("-n", min=1, help="How many images.")] = 20,
    index: options.Index = None,
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
    html: looking.Html = None,
    sheet: looking.Sheet = None,
    preview: looking.Preview = False,
    preview_as: looking.PreviewAs = None,
    quiet: options.Quiet = False,
) -> int:
    """List the images that are least like any other, with what is nearest to each, how far away, and what is odd.

    `times`: how many times as far as for the image in the middle of all that have no exact copy. `reason`: told from
    distance, size, shape and format among all images, and from the picture's colours.
    """
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json, out)
    looks = looking.wanted(html, sheet, preview, preview_as, table=chosen == "table" and out is None, quiet=quiet)
    with ImageIndex.open(options.find_index(index)) as opened:
        found = opened.outliers(n=n)
        if looks:
            looking.show(opened, opened.outliers_page(found), looks)
    rows = [asdict(outlier) for outlier in found]
    emit(Document(rows, rows, ["rank", "distance", "times", "path", "nearest", "id", "reason"]), chosen, out)
    return 0
