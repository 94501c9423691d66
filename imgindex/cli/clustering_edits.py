"""imgindex clusterings merge, split, move and undo: a clustering is edited by hand, and each edit is a new one."""

from __future__ import annotations

from typing import Annotated

import typer

from imgindex.cli import cluster_tables, options
from imgindex.cli.cluster import read_anchors
from imgindex.cli.inputs import expand_paths
from imgindex.cli.output import choose_format, emit, remark
from imgindex.results import Clustering

LABEL = "LABEL"
Of = Annotated[
    int | None, typer.Option("--clustering", metavar="ID", help="The clustering to edit.", show_default="the newest")
]


def merge(
    clusters: Annotated[
        list[str], typer.Argument(metavar=LABEL, help="Two clusters or more: their labels, or their names.")
    ],
    clustering: Of = None,
    index: options.Index = None,
    wait: options.Wait = False,
    format: options.FormatWithoutPaths = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Make one cluster of several.

    It keeps the first name that one of them has. The result is a new clustering; the one that is edited stays as it is.

    Examples:
      imgindex clusterings merge 0 3
      imgindex clusterings merge cats kittens --clustering 2
    """
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json)
    with ImageIndex.open(options.find_index(index), wait=wait) as opened:
        found = opened.clusterings.merge([_cluster(text) for text in clusters], clustering=clustering)
    _print(found, chosen, quiet=quiet)
    return 0


def split(
    cluster: Annotated[str, typer.Argument(metavar=LABEL, help="A cluster: its label, or its name.")],
    k: Annotated[
        int | None,
        typer.Option("-k", metavar="K", min=2, help="The number of parts.", show_default="2, or the anchors"),
    ] = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=IMAGE,…", help="Start a part of that name with these images; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same parts.")] = 42,
    clustering: Of = None,
    device: options.DeviceName = "auto",
    index: options.Index = None,
    wait: options.Wait = False,
    format: options.FormatWithoutPaths = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Make several clusters of one.

    K-means finds the parts among its images. The largest part keeps its name, unless anchors name the parts.

    Examples:
      imgindex clusterings split 0 -k 2
      imgindex clusterings split 0 -k 3 --anchor tigers=photos/cat.jpg
    """
    from imgindex.index import ImageIndex
    from imgindex.types import Engine

    chosen = choose_format(format, json)
    anchors = read_anchors(anchor or [])
    with ImageIndex.open(options.find_index(index), engine=Engine(device), wait=wait) as opened:
        found = opened.clusterings.split(_cluster(cluster), k, anchors=anchors, seed=seed, clustering=clustering)
    _print(found, chosen, quiet=quiet)
    return 0


def move(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Images and folders of the index; - reads paths from stdin.")
    ],
    to: Annotated[str, typer.Option("--to", metavar=LABEL, help="The cluster that gets them: its label, or its name.")],
    null: options.Null = False,
    clustering: Of = None,
    index: options.Index = None,
    wait: options.Wait = False,
    format: options.FormatWithoutPaths = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Move images to another cluster.

    The files stay where they are. The result is a new clustering; the one that is edited stays as it is.

    Examples:
      imgindex clusterings move photos/cat.jpg --to kittens
      imgindex clusterings move photos/cat.jpg photos/2020/2020-1.jpg --to 0
    """
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json)
    named = expand_paths(paths, null=null, command="clusterings move")
    with ImageIndex.open(options.find_index(index), wait=wait) as opened:
        found = opened.clusterings.move(named, _cluster(to), clustering=clustering)
    _print(found, chosen, quiet=quiet)
    return 0


def undo(
    id: Annotated[
        int | None, typer.Argument(metavar="ID", help="The clustering that an edit made.", show_default="the newest")
    ] = None,
    index: options.Index = None,
    wait: options.Wait = False,
    format: options.FormatWithoutPaths = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Undo an edit of a clustering.

    The clustering that the edit made is deleted, and the one before is printed.

    Examples:
      imgindex clusterings undo
      imgindex clusterings undo 3
    """
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json)
    with ImageIndex.open(options.find_index(index), wait=wait) as opened:
        found = opened.clusterings.undo(clustering=id)
    emit(cluster_tables.sizes(found), chosen, optional=["cluster"])
    remark(f"back to clustering {found.id}", quiet=quiet)
    return 0


def _print(found: Clustering, format: str, *, quiet: bool) -> None:
    emit(cluster_tables.sizes(found), format, optional=["cluster"])
    if format != "json":
        if (drift := cluster_tables.drift(found)) is not None:
            remark(drift, quiet=quiet)
        remark(f"kept as clustering {found.id}; `imgindex clusterings undo` takes it back", quiet=quiet)


def _cluster(text: str) -> int | str:
    """Return a cluster as it is given to the library: a number is a label, anything else a name."""
    try:
        return int(text)
    except ValueError:
        return text
