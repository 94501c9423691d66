"""imgindex cluster: k-means over all vectors; and its subcommands, which compare clusterings."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Annotated, Final, Literal

import typer

from imgindex.cli import folder_options, gallery_options, label_options, options
from imgindex.cli.help import put_options_last
from imgindex.cli.output import choose_format, count, emit, naming, progress, remark, suggest, with_short_paths
from imgindex.errors import UsageError
from imgindex.storage.paths import absolute

# The value of --max-size for clusters as equal as their number allows.
BALANCED: Final = "balanced"


def command(
    context: typer.Context,
    k: Annotated[
        str | None, typer.Option("-k", metavar="K", help="How many clusters: a number, auto, or a range like 2..40.")
    ] = None,
    out: label_options.LabelsOut = None,
    like: label_options.Like = None,
    id: label_options.IdKind = None,
    extras: label_options.With = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="The same seed gives the same labels.")] = 42,
    restarts: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Starts, of which the best is kept.", show_default="by the size"),
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="The most that a start makes.", show_default="300")
    ] = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=IMAGE,…", help="Start a cluster of that name with these images; may be repeated."),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(metavar="N", help="Make no cluster larger: a number, or balanced for sizes within one of equal."),
    ] = None,
    smooth: Annotated[
        bool, typer.Option("--smooth", help="Average each vector with its 8 nearest first, and cluster the averages.")
    ] = False,
    link_to: folder_options.LinkTo = None,
    copy_to: folder_options.CopyTo = None,
    dry_run: folder_options.DryRun = False,
    map: label_options.Maps = None,
    images: label_options.Images = None,
    where: options.Where = None,
    device: options.DeviceName = "auto",
    ray: options.Ray = None,
    index: options.Index = None,
    wait: options.Wait = False,
    format: options.FormatName = None,
    json: options.Json = False,
    html: gallery_options.Html = None,
    sheet: gallery_options.Sheet = None,
    preview: gallery_options.Preview = False,
    preview_as: gallery_options.PreviewAs = None,
    quiet: options.Quiet = False,
) -> int:
    """Put all images into clusters of similar images.

    Prints the sizes of the clusters; --out writes the label of each image, and --html a page that shows the clusters.
    Label 0 is the largest cluster. With -k auto or a range, k is chosen by the silhouette: how much nearer an image's
    own cluster is than the next one. The method is k-means with Euclidean distance. Each clustering is kept in the
    index: clusters that are still the same as in the one before keep their ids and names.

    Examples:
      imgindex cluster -k 5 --out submission.csv
      imgindex cluster -k auto --html clusters.html
    """
    if context.invoked_subcommand is not None:
        put_options_last(context)
        return 0
    from imgindex.index import ImageIndex
    from imgindex.types import Engine

    if k is None and not anchor:
        raise UsageError("the number of clusters is missing", hint="give -k K, for example -k 5, or -k auto")
    labels = label_options.LabelOptions(out=out, format=format, json=json, like=like, id=id, extras=extras, quiet=quiet)
    folder_options.check_dry_run(dry_run, link_to, copy_to)
    maps = label_options.map_methods(map, html)
    listed = label_options.page_images(images, html)
    most = _most_in_a_cluster(max_size)
    gallery = gallery_options.GalleryOptions(
        html=html, sheet=sheet, preview=preview, preview_as=preview_as, table=labels.format == "table", quiet=quiet
    )
    with ImageIndex.open(options.find_index(index), engine=Engine(device), wait=wait) as opened:
        with progress(quiet=quiet) as on_progress:
            found = opened.cluster(
                None if k is None else _number_of_clusters(k),
                seed=seed,
                restarts=restarts,
                iterations=iterations,
                anchors=read_anchors(anchor or []),
                balanced=most == BALANCED,
                max_size=None if most == BALANCED else most,
                smooth=smooth,
                where=where,
                label_format=labels.label_format(opened.paths()),
                ray=ray,
                on_progress=on_progress,
            )
        labels.print_clustering(opened, found)
        if labels.format != "json":
            if found.id is not None:
                remark(f"kept as clustering {found.id}", quiet=quiet)
            if found.not_kept:
                remark(f"this clustering is not kept: {found.not_kept}", quiet=quiet)
        code = label_options.show_clusters(
            opened,
            found,
            gallery,
            maps=maps,
            images=listed,
            link_to=link_to,
            copy_to=copy_to,
            dry_run=dry_run,
            quiet=quiet,
        )
    if labels.format == "table" and found.id is not None:
        command = f"clusterings show {found.id} --html clusters.html" if html is None else "label 0 NAME"
        purpose = "look at the clusters" if html is None else "name the largest cluster"
        suggest(purpose, command, index=index, quiet=quiet)
    return code


def diff(
    a: Annotated[int, typer.Argument(metavar="A", help="The id of a clustering.")],
    b: Annotated[int, typer.Argument(metavar="B", help="The id of another one.")],
    index: options.Index = None,
    format: options.FormatName = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """List the images that are in another cluster in B than in A.

    Clusters are matched by their images, not by their labels: two that share the most images are the same cluster.
    ARI and NMI measure how far the clusterings agree, where 1 is complete agreement.

    Examples:
      imgindex cluster diff 1 2
      imgindex cluster diff 1 2 --format paths
    """
    from imgindex.cli import cluster_tables
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json, out)
    with ImageIndex.open(options.find_index(index)) as opened:
        found = opened.clusterings.diff(a, b)
    found = replace(found, moved=tuple(with_short_paths(one, "path") for one in found.moved))
    emit(cluster_tables.diff(found), chosen, out, optional=["id"])
    remark(
        f"{len(found.moved):,} of {count(found.images, 'image')} moved: ARI {found.ari:.3f}, NMI {found.nmi:.3f}",
        quiet=quiet,
    )
    for id, only in ((a, found.only_a), (b, found.only_b)):
        if only:
            remark(f"{count(only, 'image')} only in clustering {id}", quiet=quiet)
    return 0


def evaluate(
    id: Annotated[int | None, typer.Argument(metavar="ID", help="The clustering.", show_default="the newest")] = None,
    truth: Annotated[str | None, typer.Option(metavar="CSV", help="ImageID and class of the images.")] = None,
    by_folder: Annotated[bool, typer.Option("--by-folder", help="The class of an image is its folder's name.")] = False,
    id_kind: Annotated[
        str | None,
        typer.Option("--id", metavar="KIND", help="What ImageID is: stem, name or path.", show_default="as clustered"),
    ] = None,
    index: options.Index = None,
    format: options.FormatWithoutPaths = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """Compare a clustering with known classes.

    The scores are ARI, NMI, homogeneity, completeness, V-measure and purity. As csv or tsv the confusion matrix is
    printed, a row a cluster and a column a class; as json everything.

    Examples:
      imgindex cluster evaluate --by-folder
      imgindex cluster evaluate 1 --truth labels.csv
    """
    from imgindex.cli import cluster_tables
    from imgindex.index import ImageIndex

    if (truth is None) != by_folder:
        raise UsageError("give the classes either by a CSV or by folders", hint="--truth labels.csv, or --by-folder")
    if truth is not None and (not os.path.exists(absolute(truth)) or os.path.isdir(absolute(truth))):
        raise UsageError(f"{truth!r} does not exist", hint="check the path given to --truth")
    chosen = choose_format(format, json, out)
    with ImageIndex.open(options.find_index(index)) as opened:
        found = opened.clusterings.evaluate(truth, id_kind=id_kind, clustering=id, relative_to=os.getcwd())
    if chosen == "table":
        emit(cluster_tables.scores(found), chosen, out)
        if out is None:
            emit(cluster_tables.classes(found), chosen)
    else:
        emit(cluster_tables.confusion(found), chosen, out)
    classes = count(len(found.classes), "class", "classes")
    remark(f"clustering {found.clustering}, {count(found.images, 'image')} of {classes}", quiet=quiet)
    if found.unlabelled:
        remark(f"{count(found.unlabelled, 'image')} left out, because no class is given", quiet=quiet)
    if found.unknown:
        ids = naming(found.unknown)
        remark(f"{count(len(found.unknown), 'id')} not in the clustering: {ids}", quiet=quiet)
    return 0


def _number_of_clusters(text: str) -> int | range | None:
    """Return k, or the range to choose it from, or None for auto. Raises UsageError."""
    if text == "auto":
        return None
    first, dots, last = text.partition("..")
    hint = "give a number from 1, a range like 2..40, or auto"
    if not (first.isdecimal() and (last.isdecimal() or not dots)):
        raise UsageError(f"-k {text} is not a number of clusters", hint=hint)
    if not dots and int(first):
        return int(first)
    if not dots or int(first) < 2 or int(last) <= int(first):
        raise UsageError(f"-k {text} leaves nothing to choose from", hint=hint)
    return range(int(first), int(last) + 1)


def _most_in_a_cluster(text: str | None) -> int | Literal["balanced"] | None:
    """Return the size that no cluster exceeds, or BALANCED, or None for no limit. Raises UsageError."""
    if text is None:
        return None
    if text == BALANCED:
        return BALANCED
    if not text.isdecimal() or not int(text):
        raise UsageError(f"--max-size {text} is not a number of images", hint="give a number from 1, or balanced")
    return int(text)


def read_anchors(texts: list[str]) -> dict[str, list[str]]:
    """Return the images of each name from texts like NAME=IMAGE,IMAGE; a name may be repeated. Raises UsageError."""
    from imgindex.sources.registry import exists

    anchors: dict[str, list[str]] = {}
    for text in texts:
        name, equals, images = text.partition("=")
        if not equals or not name or not images:
            raise UsageError(f"--anchor {text} does not name images", hint="write --anchor cats=a.jpg,b.jpg")
        # A file's name may hold a comma, too.
        anchors.setdefault(name, []).extend([images] if exists(absolute(images)) else images.split(","))
    return anchors
