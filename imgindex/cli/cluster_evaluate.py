"""imgindex cluster evaluate: how far a clustering agrees with what a person says."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit, remark
from imgindex.errors import UsageError

SHOWN = 5


def command(
    id: Annotated[int | None, typer.Argument(metavar="ID", help="The clustering.", show_default="the newest")] = None,
    truth: Annotated[str | None, typer.Option(metavar="CSV", help="ImageID and class of the images.")] = None,
    by_folder: Annotated[bool, typer.Option("--by-folder", help="The class of an image is its folder's name.")] = False,
    id_kind: Annotated[
        str | None,
        typer.Option("--id", metavar="KIND", help="What ImageID is: stem, name or path.", show_default="as clustered"),
    ] = None,
    index: options.Index = None,
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """Compare a clustering with classes that a person gave: ARI, NMI, V-measure, purity, and the confusion.

    As csv or tsv the confusion is printed, one row a cluster and one column a class; as json everything.
    """
    from imgindex.index import ImageIndex
    from imgindex.reports import clusters

    if (truth is None) != by_folder:
        raise UsageError("the truth is a CSV or the folders", hint="say --truth labels.csv or --by-folder")
    if truth is not None and not os.path.isfile(truth):
        raise UsageError(f"there is no file {truth}", hint="check the path given to --truth")
    chosen = choose_format(format, json, out)
    with ImageIndex.open(options.find_index(index)) as opened:
        found = opened.evaluate(truth, id_kind=id_kind, clustering=id)
    if chosen == "table":
        emit(clusters.scores(found), chosen, out)
        if out is None:
            emit(clusters.classes(found), chosen)
    else:
        emit(clusters.confusion(found), chosen, out)
    remark(f"clustering {found.clustering}, {found.images} images of {len(found.classes)} classes", quiet=quiet)
    if found.unlabelled:
        remark(f"{found.unlabelled} images have no class there, and are left out", quiet=quiet)
    if found.unknown:
        some = ", ".join(map(repr, found.unknown[:SHOWN])) + (" …" if len(found.unknown) > SHOWN else "")
        remark(f"{len(found.unknown)} ids there are of no image in the clustering: {some}", quiet=quiet)
    return 0
