"""imgindex export: vectors for other programs."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from imgindex.cli import options, output
from imgindex.cli.output import choose_format, emit, progress
from imgindex.export.tables import Table


def command(
    out: Annotated[
        str, typer.Option(metavar="FILE", help="By its ending: .parquet .npz .npy .faiss .csv; - is a CSV on stdout.")
    ],
    where: options.Where = None,
    map: Annotated[
        str,
        typer.Option(
            metavar="METHOD", help="x and y in .parquet: pca, pacmap, umap, tsne (of all these images) or none."
        ),
    ] = "pca",
    thumbnails: Annotated[
        int, typer.Option(metavar="PIXELS", min=0, help="Longer side of the thumbnails in .parquet; 0 for none.")
    ] = 192,
    index: options.Index = None,
    format: options.FormatName = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Write ids, paths and vectors to a file.

    Images are in the order of their ids. A .parquet file also has clusters, tags, metadata, a map and thumbnails:
    Embedding Atlas and Spotlight open it as it is.

    Examples:
      imgindex export --out vectors.npz
      imgindex export --out large.parquet --where "width > 1000"
    """
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json)
    with ImageIndex.open(options.find_index(index)) as opened, progress(quiet=quiet) as on_progress:
        number = opened.export(
            out,
            format="csv" if output.settings.is_stdout_taken else None,
            overwrite=output.settings.overwrite,
            where=where,
            map=map,
            thumbnails=thumbnails,
            relative_to=os.getcwd(),
            on_progress=on_progress,
        )
    row = {"path": out, "images": number}
    emit(Table(row, [row], ["path", "images"]), chosen)
    return 0
