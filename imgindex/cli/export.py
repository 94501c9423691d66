"""imgindex export: vectors for other programs."""

from __future__ import annotations

from typing import Annotated

import typer

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit, progress
from imgindex.reports.formats import Document


def command(
    out: Annotated[str, typer.Option(metavar="FILE", help="By its ending: .parquet .npz .npy .faiss .csv.")],
    where: options.Where = None,
    map: Annotated[
        str, typer.Option(metavar="METHOD", help="x and y of .parquet: pca, umap, tsne (of all these images) or none.")
    ] = "pca",
    thumbnails: Annotated[
        int, typer.Option(metavar="PIXELS", min=0, help="Longer side of the pictures in .parquet; 0 for none.")
    ] = 192,
    index: options.Index = None,
    format: options.Formats = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Write ids, paths and vectors to a file, in the order of ids.

    .parquet also has clusters, tags, metadata, a map and thumbnails: Embedding Atlas and Spotlight open it as it is.
    """
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json)
    with ImageIndex.open(options.find_index(index)) as opened, progress(quiet=quiet) as on_progress:
        count = opened.export(out, where=where, map=map, thumbnails=thumbnails, on_progress=on_progress)
    row = {"path": out, "images": count}
    emit(Document(row, [row], ["path", "images"]), chosen)
    return 0
