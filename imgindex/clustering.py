"""From the stored vectors to a clustering with its receipt."""

from __future__ import annotations

import time

import numpy as np

from imgindex.analysis.kmeans import kmeans
from imgindex.errors import TooFewDistinctVectors
from imgindex.storage.store import Store
from imgindex.types import Clustering, Vectors


def cluster(
    store: Store, k: int, *, seed: int, restarts: int | None, iterations: int | None, init: Vectors | None
) -> Clustering:
    """Cluster all images that are shown, from one state of the index; restarts and iterations None as in `kmeans`.

    Raises IndexDamaged, TooFewDistinctVectors or UsageError.
    """
    started = time.perf_counter()
    with store.reading():
        paths = store.catalogue.image_paths()
        vectors = store.vectors(list(paths))
    if not paths:
        raise TooFewDistinctVectors("the index holds no images", hint="add some with `imgindex add FOLDER`")
    limits = {} if iterations is None else {"iterations": iterations}
    result = kmeans(vectors, k, seed=seed, restarts=restarts, init=init, **limits)
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
    )
