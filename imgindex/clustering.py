"""From the stored vectors to a clustering with its receipt."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from imgindex.analysis.choosing import auto_range, choose, curve
from imgindex.analysis.kmeans import kmeans
from imgindex.analysis.points import Points
from imgindex.errors import TooFewDistinctVectors
from imgindex.storage.store import Store
from imgindex.types import Clustering, KScore

# Multiplications in one assignment of all rows from which on a GPU gains more than torch's import and start cost:
# from there on a processor takes about a second for it, and a run makes ten or more.
WORTH_A_GPU = 5e10


def cluster(store: Store, k: int | range | None, seed: int, device: str, **limits: Any) -> Clustering:
    """Cluster all images that are shown, from one state of the index, read a block at a time from the segments.

    k: None chooses it from those that so many images may have, a range from these.
    device: as the engine names it; auto takes a GPU for large work alone. limits: restarts, iterations and init as
    `kmeans` takes them, None for its own choice.
    Raises IndexDamaged, DeviceUnavailable, TooFewDistinctVectors or UsageError.
    """
    started = time.perf_counter()
    with store.reading():
        paths = store.catalogue.image_paths()
        points = Points.stored(store.blocks(), store.segments.dimension)
    if not paths:
        raise TooFewDistinctVectors("the index holds no images", hint="add some with `imgindex add FOLDER`")
    scores: tuple[KScore, ...] = ()
    if not isinstance(k, int):
        scores = tuple(curve(points, k or auto_range(len(points)), seed=seed))
        k = choose(scores)
    points = _on_device(points, device, len(points) * k * points.dimension)
    result = kmeans(points, k, seed=seed, **{name: value for name, value in limits.items() if value is not None})
    return Clustering(
        k=k,
        seed=seed,
        ids=np.fromiter(paths, dtype=np.int64),
        paths=list(paths.values()),
        labels=result.labels,
        centroids=result.centroids,
        sizes=result.sizes,
        objective=result.objective,
        iterations=result.iterations,
        restarts=len(result.restart_objectives),
        trained_on=len(paths),
        seconds=round(time.perf_counter() - started, 3),
        curve=scores,
    )


def _on_device(points: Points, device: str, work: float) -> Points:
    """Have the nearest centroids found by torch on the device named; auto takes a GPU for large work alone."""
    if device == "cpu" or (device == "auto" and work < WORTH_A_GPU):
        return points
    from imgindex.analysis.torch_nearest import nearest_on
    from imgindex.embedding.device import choose_device

    chosen = choose_device(device)
    if device == "auto" and chosen.type != "cuda":
        return points
    return replace(points, nearest=nearest_on(chosen))
