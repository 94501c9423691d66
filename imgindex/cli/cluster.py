"""imgindex cluster: k-means over all vectors."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit, remark
from imgindex.errors import UsageError
from imgindex.reports.formats import ENDINGS, Document

if TYPE_CHECKING:
    from imgindex.types import Clustering

RECEIPT = ("k", "seed", "objective", "iterations", "restarts", "trained_on", "sizes", "seconds")


def command(
    k: Annotated[
        str, typer.Option("-k", metavar="K", help="How many clusters: a number, auto, or a range like 2..40.")
    ],
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write ImageID,label to a file, say submission.csv.")
    ] = None,
    like: Annotated[
        str | None, typer.Option(metavar="CSV", help="Copy columns, ids and order of this sample submission.")
    ] = None,
    id: Annotated[str, typer.Option("--id", metavar="KIND", help="What ImageID is: stem, name or path.")] = "stem",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same labels.")] = 42,
    restarts: Annotated[
        int | None, typer.Option(min=1, help="Starts, of which the best is kept.", show_default="by the size")
    ] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="At most, of each start.", show_default="300")] = None,
    device: options.DeviceName = "auto",
    index: options.Index = None,
    format: options.Formats = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Cluster all images by FAISS k-means with Euclidean distance; label 0 is the largest cluster.

    Without --out the sizes are printed; --format csv prints the labels. -k auto and ranges are chosen from by the
    silhouette: how much nearer an image's own cluster is than the next one.
    """
    from imgindex.index import ImageIndex
    from imgindex.reports import submission
    from imgindex.reports.curve import plot
    from imgindex.types import Engine

    wanted = _number_of_clusters(k)
    if like is not None and not os.path.isfile(like):
        raise UsageError(f"there is no sample {like}", hint="check the path given to --like")
    written = None if out is None else choose_format(None if _names_format(out) else format, False, out)
    shown = choose_format(None if out is not None and not json else format, json)
    with ImageIndex.open(options.find_index(index), engine=Engine(device)) as opened:
        # Before the work: whatever is wrong with the ids is said at once.
        ids = submission.image_ids(opened.paths(), id)
        failed = {failure.path: failure.reason for failure in opened.failures()}
        form = submission.plain(ids) if like is None else submission.like(like, ids, failed=failed)
        clustering = opened.cluster(wanted, seed=seed, restarts=restarts, iterations=iterations)
    rows = form.fill(dict(zip(clustering.paths, clustering.labels.tolist(), strict=True)))
    labelled = [{**dict(zip(form.header, row, strict=True)), "path": ids[row[0]]} for row in rows]
    if out is not None and written is not None:
        emit(Document(labelled, labelled, form.header), written, out)
    if clustering.curve and shown != "json":
        for line in plot(clustering.curve, clustering.k):
            remark(line, quiet=quiet)
    _show(clustering, labelled, form.header, shown, with_images=out is None)
    if shown != "json":
        remark(_receipt(clustering, out), quiet=quiet)
    return 0


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


def _names_format(out: str) -> bool:
    return os.path.splitext(out)[1].lower() in ENDINGS


def _show(
    clustering: Clustering, labelled: list[dict[str, Any]], header: list[str], format: str, *, with_images: bool
) -> None:
    if format == "table":
        sizes = [{"label": label, "images": size} for label, size in enumerate(clustering.sizes)]
        emit(Document(sizes, sizes, ["label", "images"]), format)
        return
    receipt = {name: getattr(clustering, name) for name in RECEIPT}
    if clustering.curve:
        receipt["curve"] = [asdict(score) for score in clustering.curve]
    data = {**receipt, "images": labelled} if with_images else receipt
    emit(Document(data if format == "json" else labelled, labelled, header), format)


def _receipt(clustering: Clustering, out: str | None) -> str:
    said = (
        f"{clustering.trained_on} images, all of them trained on, into {clustering.k} clusters: "
        f"objective {clustering.objective:.6g} after {clustering.iterations} iterations, "
        f"best of {clustering.restarts} starts, seed {clustering.seed}, {clustering.seconds:.1f} s"
    )
    if clustering.curve:
        best = next(score for score in clustering.curve if score.k == clustering.k)
        tried = f"{clustering.curve[0].k} to {clustering.curve[-1].k}"
        said = f"of {tried} clusters, {best.k} have the greatest silhouette ({best.silhouette:.3f}); {said}"
    return f"{said}; labels in {out}" if out is not None else said
