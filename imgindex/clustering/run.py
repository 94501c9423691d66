"""Clusters the images of an index: reads their vectors, runs k-means, and stores the result with its provenance."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from imgindex.clustering.balanced import check_room, limit_sizes
from imgindex.clustering.choose_k import best_k, default_range, score_each_k, share_of_copies
from imgindex.clustering.history import VECTOR_COLUMNS, software_versions, store_clustering
from imgindex.clustering.kmeans import MakeClusters, kmeans
from imgindex.clustering.labels import empty_submission
from imgindex.clustering.lloyd import Lloyd
from imgindex.clustering.metrics import measure_fit
from imgindex.clustering.nearest import on_device
from imgindex.clustering.ray_lloyd import RayClusters
from imgindex.clustering.seeding import anchored_centroids
from imgindex.errors import TooFewDistinctVectors, UsageError
from imgindex.nodes.cluster import check_address
from imgindex.results import Clustering, KScore, LabelFormat
from imgindex.search.filters import select
from imgindex.search.smoothed import smoothed_rows, vector_rows
from imgindex.search.upkeep import prepare_smoothing
from imgindex.storage.store import Store
from imgindex.types import Ids, OnProgress, Progress, Vectors
from imgindex.vectors.rows import NearestBlock, VectorRows


def cluster(
    store: Store,
    k: int | range | None,
    *,
    seed: int,
    restarts: int | None,
    iterations: int | None,
    init: Vectors | None,
    anchors: Mapping[str, Vectors],
    balanced: bool,
    max_size: int | None,
    smooth: bool,
    where: str | None,
    label_format: LabelFormat | None,
    device: str,
    ray: str | None,
    wait: Callable[[], bool],
    on_progress: OnProgress,
) -> Clustering:
    """Cluster the images of one state of the index, and store the clustering where the index can be written to.

    The parameters are those of `ImageIndex.cluster`, except for anchors: here the vectors (m, dimension) of the
    examples by name, averaged with `smooth`. Vectors are read a block at a time from the segments, or from the file of
    averages.

    Raises IndexDamaged, DeviceUnavailable, TooFewDistinctVectors or UsageError.
    """
    started = time.perf_counter()
    if init is not None and anchors:
        raise UsageError("both init and anchors are given", hint="start from centroids, or from anchors")
    if balanced and max_size is not None:
        raise UsageError("both balanced and max_size are given, not one", hint="leave one of them out")
    if max_size is not None and max_size < 1:
        raise UsageError(f"max_size is {max_size}; a cluster has at least 1 image", hint="give 1 or more")
    if ray is not None:
        check_address(ray)
    elif device not in ("auto", "cpu"):
        from imgindex.encoders.devices import choose_device

        choose_device(device)
    if smooth:
        with store.reading():
            select(store, where)  # a mistake in the condition is reported before the work
        prepare_smoothing(store, on_progress)
    on_progress(Progress("read vectors", 0, 0))
    images = _read_images(store, where, label_format, on_progress, smooth=smooth)
    n = len(images.paths)
    on_progress(Progress("read vectors", n, n))
    greatest = (k.stop - 1 if k else 0) if isinstance(k, range) else k
    if greatest:
        check_room(greatest, n, max_size)
    scores, k = _choose_k(images.points, k, len(anchors), seed, on_progress)
    check_room(k, n, max_size)
    points = on_device(images.points, device, len(images.points) * k * images.points.dimension)
    start = anchored_centroids(points, list(anchors.values()), k, seed=seed) if anchors else init
    on_progress(Progress("k-means", 0, n))
    with contextlib.ExitStack() as stack:
        make_clusters: MakeClusters = Lloyd
        if ray is not None:
            make_clusters = stack.enter_context(RayClusters(ray, device=device, on_progress=on_progress))
        result = kmeans(
            _counting(points, on_progress),
            k,
            seed=seed,
            restarts=restarts,
            iterations=iterations,
            init=start,
            make_clusters=make_clusters,
        )
    if balanced or max_size is not None:
        result = limit_sizes(points, result, most=max_size)
    options = {
        "restarts": restarts,
        "iterations": iterations,
        "max_size": max_size,
        "balanced": balanced or None,
        "smooth": smooth or None,
        "where": where,
        "anchors": sorted(anchors) or None,
        "init": None if init is None else "given",
    }
    label_format = label_format or LabelFormat()
    computed = VECTOR_COLUMNS & set(label_format.extras)
    silhouettes = "silhouette" in computed
    found = Clustering(
        k=k,
        seed=seed,
        ids=images.ids,
        paths=images.paths,
        labels=result.labels,
        centroids=result.centroids,
        sizes=result.sizes,
        objective=result.objective,
        iterations=result.iterations,
        restarts=len(result.restart_objectives),
        trained_on=len(images.paths),
        seconds=round(time.perf_counter() - started, 3),
        curve=scores,
        copies=share_of_copies(images.stored, images.crcs) if scores else 0.0,
        restart_objectives=result.restart_objectives,
        converged=result.converged,
        recipe_digest=store.settings.get("recipe_digest", ""),
        versions=software_versions(),
        options={name: value for name, value in options.items() if value is not None},
        label_format=label_format,
        fit=measure_fit(points, result.labels, result.centroids, silhouettes=silhouettes) if computed else None,
    )
    anchor_names = dict(enumerate(anchors))  # by the row of the start
    names = {label: anchor_names[row] for label, row in enumerate(result.init_rows) if row in anchor_names}
    return store_clustering(store, found, crcs=images.crcs, names=names, wait=wait)


@dataclass(frozen=True, slots=True)
class _Images:
    """The images to cluster, in the order of ids (n): ids, CRC32s of vectors, absolute paths and vectors.

    points: what is clustered, which are averages where that was asked for. stored: the vectors themselves.
    """

    ids: Ids
    crcs: Ids
    paths: list[str]
    points: VectorRows
    stored: VectorRows


def _read_images(
    store: Store, where: str | None, label_format: LabelFormat | None, on_progress: OnProgress, *, smooth: bool
) -> _Images:
    """Return the images that fulfil a condition. Raises UsageError and SampleMismatch as `empty_submission` does."""
    with store.reading():
        only = select(store, where)
        if smooth:
            smoothed_rows(store, on_progress)  # now, to report the progress where they have to be made
        stored = vector_rows(store, only, smooth=False)
        points = vector_rows(store, only, smooth=True) if smooth else stored
        table = store.location_table()
        if only is not None:
            table = table[np.isin(table[:, 0], only)]
        paths = list(store.catalogue.image_paths(None if only is None else only.tolist()).values())
        if label_format is not None:
            # Here, so that labels that could not be written are reported before the work.
            empty_submission(store, label_format, paths)
    if not paths and where is None:
        raise TooFewDistinctVectors("the index holds no images", hint="add some with `imgindex add FOLDER`")
    if not paths:
        raise TooFewDistinctVectors(f"no image fulfils {where!r}", hint="try conditions with `imgindex list --where`")
    return _Images(table[:, 0], table[:, 3], paths, points, stored)


def _choose_k(
    points: VectorRows, k: int | range | None, anchors: int, seed: int, on_progress: OnProgress
) -> tuple[tuple[KScore, ...], int]:
    """Return the scores of the numbers of clusters that were tried, none where k is given, and the number to use."""
    if k is None and anchors:
        return (), anchors
    if k is not None and not isinstance(k, range):
        return (), k
    ks = default_range(len(points)) if k is None else k
    if not ks:
        raise UsageError("the range of k is empty", hint="give the smaller number first, for example `k=range(2, 41)`")
    # As many as can be tried before one is too large: the length of a range may exceed 64 bits.
    ks = ks[: len(points) + 1]
    scores: list[KScore] = []
    on_progress(Progress("choosing k", 0, len(ks), unit="clusterings"))
    for score in score_each_k(points, ks, seed=seed):
        scores.append(score)
        on_progress(Progress("choosing k", len(scores), len(ks), unit="clusterings"))
    return tuple(scores), best_k(scores)


def _counting(points: VectorRows, on_progress: OnProgress) -> VectorRows:
    """Return the points such that each assignment of all rows to their nearest centroids is reported."""
    n = len(points)

    def finder(counted: VectorRows, centroids: Vectors) -> Iterator[NearestBlock]:
        for block in points.finder(counted, centroids):
            on_progress(Progress("k-means", min(block.places.stop, n), n))
            yield block

    return replace(points, finder=finder)
