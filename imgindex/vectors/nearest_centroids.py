"""The nearest of some centroids, by FAISS."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from imgindex.types import Vectors
from imgindex.vectors.faiss_threads import limited_threads, threads_for

# From rows (b, d) to the labels (b, m) of the m nearest centroids of each, nearest first, and their squared distances.
FindNearest = Callable[[Vectors], tuple[npt.NDArray[np.int64], Vectors]]


def nearest_centroids(centroids: Vectors, m: int = 1) -> FindNearest:
    """Return a function that finds the m nearest of centroids (k, d), as FAISS's own k-means does.

    Distances come from float32 products, so they are rounded by some 1e-6 of the squared lengths.
    """
    # Imported late: where both are loaded, torch must come before FAISS.
    from imgindex.vectors.faiss_library import faiss

    index = faiss.IndexFlatL2(centroids.shape[1])
    index.add(np.ascontiguousarray(centroids))

    def find(rows: Vectors) -> tuple[npt.NDArray[np.int64], Vectors]:
        with limited_threads(threads_for(rows.size * len(centroids))):
            squares, labels = index.search(rows, m)
        return labels, squares

    return find
