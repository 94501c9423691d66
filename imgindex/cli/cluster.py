"""imgindex cluster: k-means over all vectors."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from imgindex.cli import arranged, looking, options
from imgindex.cli.output import choose_format, emit, progress, remark
from imgindex.errors import UsageError
from imgindex.reports.formats import ENDINGS

if TYPE_CHECKING:
    from imgindex.answers.clusterings import Assignment, Clustering
    from imgindex.index import ImageIndex


# Options that mean nothing where a kept clustering is printed or added to.
OF_A_RUN = {"seed", "restarts", "iterations", "balanced", "max_size", "where", "device"}


def command(
    context: typer.Context,
    k: Annotated[
        str | None, typer.Option("-k", metavar="K", help="How many clusters: a number, auto, or a range like 2..40.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write ImageID,label to a file, say submission.csv.")
    ] = None,
    like: Annotated[
        str | None, typer.Option(metavar="CSV", help="Copy columns, ids and order of this sample submission.")
    ] = None,
    id: Annotated[
        str | None,
        typer.Option("--id", metavar="KIND", help="What ImageID is: stem, name or path.", show_default="stem"),
    ] = None,
    extras: Annotated[
        str | None,
        typer.Option("--with", metavar="COLUMNS", help="More columns: name,cluster,distance,margin,second,silhouette."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same labels.")] = 42,
    restarts: Annotated[
        int | None, typer.Option(min=1, help="Starts, of which the best is kept.", show_default="by the size")
    ] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="At most, of each start.", show_default="300")] = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=IMAGE,…", help="Begin a cluster of that name with these examples; repeat it."),
    ] = None,
    balanced: Annotated[bool, typer.Option("--balanced", help="Clusters whose sizes differ by one at most.")] = False,
    max_size: Annotated[int | None, typer.Option(metavar="N", min=1, help="No cluster is larger than this.")] = None,
    replay: Annotated[
        int | None, typer.Option(metavar="ID", help="Print a kept clustering again, byte for byte, instead.")
    ] = None,
    assign: Annotated[
        int | None, typer.Option(metavar="ID", help="Put new images into the clusters of a kept clustering, instead.")
    ] = None,
    where: options.Where = None,
    link_to: Annotated[
        str | None, typer.Option(metavar="DIR", help="Make a folder of links for each cluster in this folder.")
    ] = None,
    copy_to: Annotated[str | None, typer.Option(metavar="DIR", help="The same with copies.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what --link-to or --copy-to would do, and make nothing.")
    ] = False,
    map: Annotated[
        str, typer.Option("--map", metavar="METHODS", help="Maps of the page: pca, umap, tsne, or several with commas.")
    ] = "pca",
    device: options.DeviceName = "auto",
    index: options.Index = None,
    wait: options.Wait = False,
    format: options.Formats = None,
    json: options.Json = False,
    html: looking.Html = None,
    sheet: looking.Sheet = None,
    preview: looking.Preview = False,
    preview_as: looking.PreviewAs = None,
    quiet: options.Quiet = False,
) -> int:
    """Cluster all images by FAISS k-means with Euclidean distance; label 0 is the largest cluster.

    Without --out the sizes are printed; --format csv prints the labels. -k auto and ranges are chosen from by the
    silhouette: how much nearer an image's own cluster is than the next one. Each clustering is kept in the index:
    clusters that are still the same as in the one before keep their ids and names.
    """
    given = {name for name in context.params if _is_given(context, name)}
    if context.invoked_subcommand is not None:
        if given:
            raise UsageError(f"options of `cluster {context.invoked_subcommand}` stand behind its name")
        return 0
    from imgindex.answers.clusterings import Form
    from imgindex.index import ImageIndex
    from imgindex.reports.submission import read_text
    from imgindex.types import Engine

    if sum((replay is not None, assign is not None, k is not None or bool(anchor))) != 1:
        raise UsageError("cluster takes one of -k K, --replay ID and --assign ID", hint="to begin with, say -k 5")
    if like is not None and not os.path.isfile(like):
        raise UsageError(f"there is no sample {like}", hint="check the path given to --like")
    if k is None and not anchor and (idle := sorted(OF_A_RUN & given)):
        raise UsageError(f"--{idle[0].replace('_', '-')} speaks of a new clustering", hint="leave it out, or say -k K")
    if "map" in given and html is None:
        raise UsageError("--map speaks of the page", hint="say --html FILE too")
    if dry_run and link_to is None and copy_to is None:
        raise UsageError("--dry-run speaks of --link-to and --copy-to", hint="name the folder with one of these")
    printed = Printed(
        out,
        None if out is None else choose_format(None if _names_format(out) else format, False, out),
        choose_format(None if out is not None and not json else format, json),
        quiet,
    )
    looks = looking.wanted(html, sheet, preview, preview_as, table=printed.format == "table", quiet=quiet)
    maps = _maps(map)
    columns = None if extras is None else tuple(filter(None, extras.split(",")))
    text = None if like is None else read_text(like)
    with ImageIndex.open(options.find_index(index), engine=Engine(device)) as opened:
        opened.wait = wait
        if replay is not None:
            found = opened.clustering(replay, extras=columns)
            found = replace(found, form=Form(id or found.form.id, text or found.form.like, found.form.extras))
            _print(opened, found, printed)
        elif assign is not None:
            assigned = opened.assign(assign)
            form = Form(id or assigned.clustering.form.id, text, columns or ())
            found = opened.fitted(replace(assigned.clustering, form=form))
            _print_assignment(opened, replace(assigned, clustering=found), printed)
        else:
            with progress(quiet=quiet) as on_progress:
                found = opened.cluster(
                    None if k is None else _number_of_clusters(k),
                    seed=seed,
                    restarts=restarts,
                    iterations=iterations,
                    anchors=_anchors(anchor or []),
                    balanced=balanced,
                    max_size=max_size,
                    where=where,
                    form=Form(id or "stem", text, columns or ()),
                    on_progress=on_progress,
                )
            _print(opened, found, printed)
        failed = [
            _arrange(found, place, copy, dry_run, quiet=quiet) for place, copy in ((link_to, False), (copy_to, True))
        ]
        if looks:
            looking.show(opened, opened.clusters_page(found, maps=maps), looks)
    return options.SOME_FAILED if any(failed) else 0


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


@dataclass(frozen=True, slots=True)
class Printed:
    """Where labels are written and in which format, and the format of what is printed."""

    out: str | None
    written: str | None
    format: str
    quiet: bool


def _number_of_clusters(text: str) -> int | range | None:
    """Return the k that is meant, the range to choose it from, or None for auto. Raises UsageError."""
    if text == "auto":
        return None
    first, dots, last = text.partition("..")
    hint = "say a number from 1, a range like 2..40, or auto"
    if not (first.isdecimal() and (last.isdecimal() or not dots)):
        raise UsageError(f"-k {text} is no number of clusters", hint=hint)
    if not dots and int(first):
        return int(first)
    if not dots or int(first) < 2 or int(last) <= int(first):
        raise UsageError(f"-k {text} leaves nothing to choose from", hint=hint)
    return range(int(first), int(last) + 1)


def _anchors(given: list[str]) -> dict[str, list[str]]:
    """Return name → images of NAME=IMAGE,IMAGE…; a name may come again. Raises UsageError."""
    anchors: dict[str, list[str]] = {}
    for text in given:
        name, there, images = text.partition("=")
        if not there or not name or not images:
            raise UsageError(f"--anchor {text} names no examples", hint="say it like --anchor cats=a.jpg,b.jpg")
        # A file's name may hold a comma, too.
        anchors.setdefault(name, []).extend([images] if os.path.exists(images) else images.split(","))
    return anchors


def _maps(text: str) -> list[str]:
    from imgindex.analysis.projection import METHODS

    maps = list(dict.fromkeys(filter(None, text.split(","))))
    if wrong := [method for method in maps if method not in METHODS]:
        raise UsageError(f"there is no map {wrong[0]!r}", hint=f"choose from: {', '.join(METHODS)}")
    return maps


def _arrange(found: Clustering, where: str | None, copy: bool, dry_run: bool, *, quiet: bool) -> bool:
    """Make a folder for each cluster; return whether some images are missing there."""
    if where is None:
        return False
    from imgindex.reports.folders import arrange

    folders: dict[str, list[str]] = {}
    for path, label in zip(found.paths, found.labels.tolist(), strict=True):
        name = found.clusters[label].name
        folders.setdefault(f"{label} {name}" if name else str(label), []).append(path)
    with progress(quiet=quiet) as on_progress:
        made = arrange(where, folders, copy=copy, dry_run=dry_run, on_progress=on_progress)
    arranged.show(made, quiet=quiet)
    return bool(made.failures)


def _names_format(out: str) -> bool:
    return os.path.splitext(out)[1].lower() in ENDINGS


def _print(opened: ImageIndex, found: Clustering, printed: Printed) -> None:
    from imgindex.reports import clusters
    from imgindex.reports.curve import plot

    labels = opened.labels(found)
    if printed.out is not None and printed.written is not None:
        emit(labels, printed.written, printed.out)
    if found.curve and printed.format != "json":
        for line in plot(found.curve, found.k):
            remark(line, quiet=printed.quiet)
    if printed.format == "table":
        emit(clusters.sizes(found), "table")
    else:
        receipt = clusters.receipt(found)
        data = {**receipt, "images": labels.data} if printed.out is None else receipt
        emit(replace(labels, data=data) if printed.format == "json" else labels, printed.format)
    if printed.format != "json":
        said = clusters.summary(found)
        remark(f"{said}; labels in {printed.out}" if printed.out is not None else said, quiet=printed.quiet)
        _remark_on_keeping(found, quiet=printed.quiet)


def _remark_on_keeping(found: Clustering, *, quiet: bool) -> None:
    from imgindex.reports.clusters import drift

    if (said := drift(found)) is not None:
        remark(said, quiet=quiet)
    if found.id is not None:
        remark(f"kept as clustering {found.id}: imgindex cluster --replay {found.id} prints it again", quiet=quiet)
    if found.not_kept:
        remark(f"this clustering is not kept: {found.not_kept}", quiet=quiet)


def _print_assignment(opened: ImageIndex, found: Assignment, printed: Printed) -> None:
    from imgindex.reports import clusters

    labels = opened.labels(found.clustering)
    if printed.out is not None and printed.written is not None:
        emit(labels, printed.written, printed.out)
    if printed.format in ("table", "json", "paths"):
        emit(clusters.assignment(found), printed.format)
    else:
        emit(labels, printed.format)
    where = f"; labels in {printed.out}" if printed.out is not None else ""
    remark(f"{len(found.assigned)} images put into clustering {found.clustering.id}{where}", quiet=printed.quiet)
