"""Exact search: FAISS compares each query with every stored row, straight from the mapped segments."""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np
import numpy.typing as npt

from imgindex.types import Neighbours, Rows, Vectors

# Rows taken into memory at once where they must be converted to float32.
CONVERTED_BYTES = 64 << 20
# Rows taken beyond the n that are wanted: what rounding has put into the wrong order among them is put right by their
# true distances.
SPARE = 8
# FAISS finds the neighbours of many queries by ‖q‖² + ‖x‖² − 2q·x, which is fast and, where rows are much nearer
# to the query than to the origin, all rounding. A few queries are compared with each row directly.
DIRECT = 16


class ExactSearch:
    """Searches blocks of rows one after another; implements `VectorSearch`.

    Blocks may be memory maps of float32 or float16; rows whose id is -1 are never found.

    Raises IndexDamaged when a row is not the one that was stored.
    """

    def __init__(self, blocks: Sequence[Rows]) -> None:
        self.blocks = blocks
        for block in blocks:
            block.check(np.flatnonzero(block.ids >= 0))

    def search(self, queries: Vectors, n: int) -> Neighbours:
        """Return the n nearest rows of float32 queries (q, dimension), ties by id; id -1 where there are fewer."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        ids = np.full((len(queries), n), -1, dtype=np.int64)
        distances = np.full((len(queries), n), np.inf, dtype=np.float32)
        for block in self.blocks:
            rows = _candidates(block, queries, n + SPARE)
            found = np.where(rows >= 0, block.ids[rows], -1)
            ids = np.hstack([ids, found])
            distances = np.hstack([distances, true_distances(block, queries, rows)])
            ids, distances = nearest(ids, distances, n)
        return Neighbours(ids, distances)


def _candidates(block: Rows, queries: Vectors, n: int) -> npt.NDArray[np.int64]:
    """Row numbers (q, n) of a block nearest to each query; -1 where there are fewer."""
    # The fast way with many queries cannot skip rows: there the shown ones are copied out, a piece at a time.
    copied = block.vectors.dtype != np.float32 or (len(queries) > DIRECT and bool((block.ids < 0).any()))
    step = max(1, CONVERTED_BYTES // (4 * block.vectors.shape[1]) if copied else len(block.ids))
    best = np.full((len(queries), 0), -1, dtype=np.int64)
    near = np.full((len(queries), 0), np.inf, dtype=np.float32)
    for start in range(0, len(block.ids), step):
        vectors, shown = block.vectors[start : start + step], block.ids[start : start + step] >= 0
        kept = np.flatnonzero(shown)
        if not len(kept):
            continue
        if copied and len(kept) < len(shown):
            vectors, shown = vectors[kept], shown[kept]
        squares, rows = _knn(queries, np.ascontiguousarray(vectors, dtype=np.float32), shown, n)
        places = start + (kept[rows] if len(kept) == len(shown) else rows)
        best = np.hstack([best, np.where(rows >= 0, places, -1)])
        near = np.hstack([near, np.where(rows >= 0, squares, np.inf)])
        best, near = nearest(best, near, n)
    return best


def _knn(
    queries: Vectors, vectors: Vectors, shown: npt.NDArray[np.bool_], n: int
) -> tuple[Vectors, npt.NDArray[np.int64]]:
    """Squared distances and row numbers (q, n) of the nearest rows that are shown."""
    n = min(n, len(vectors))
    if shown.all():
        squares, rows = faiss.knn(queries, vectors, n)
        if len(queries) > DIRECT and n < len(vectors):
            again = np.flatnonzero(_in_doubt(queries, squares))
            for part in np.split(again, range(DIRECT, len(again), DIRECT)):
                squares[part], rows[part] = faiss.knn(queries[part], vectors, n)
        return squares, rows
    # faiss.knn knows no selector, the function behind it does; so hidden rows cost no copy of the others.
    squares = np.empty((len(queries), n), dtype=np.float32)
    rows = np.empty((len(queries), n), dtype=np.int64)
    bits = np.packbits(shown, bitorder="little")
    selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
    x, y, out_squares, out_rows = (faiss.swig_ptr(array) for array in (queries, vectors, squares, rows))
    faiss.knn_L2sqr(x, y, vectors.shape[1], len(queries), len(vectors), n, out_squares, out_rows, None, selector)
    return squares, rows


def _in_doubt(queries: Vectors, squares: Vectors) -> npt.NDArray[np.bool_]:
    """Whether (q,) rounding may have kept a row out that is nearer than the SPARE last ones of those found.

    Such a row is no longer than the query and the distance together, and the rounding errors of the dot product add up
    like a random walk: by the root of the dimension.
    """
    length = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
    near, far = squares[:, -1 - SPARE].astype(np.float64), squares[:, -1].astype(np.float64)
    error = np.finfo(np.float32).eps * queries.shape[1] ** 0.5 * (2 * length + np.sqrt(near.clip(0))) ** 2
    doubt: npt.NDArray[np.bool_] = ~(far - near > 2 * error)
    return doubt


def true_distances(block: Rows, queries: Vectors, rows: npt.NDArray[np.int64]) -> Vectors:
    """Euclidean distances (q, n) of rows to their query, computed in float64; infinite where the row is -1."""
    distances = np.full(rows.shape, np.inf, dtype=np.float32)
    for query, of_query, out in zip(queries, rows, distances, strict=True):
        there = of_query >= 0
        difference = block.vectors[of_query[there]].astype(np.float64) - query
        out[there] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return distances


def nearest(ids: npt.NDArray[np.int64], distances: Vectors, n: int) -> tuple[npt.NDArray[np.int64], Vectors]:
    """The n nearest of each row of candidates, ties by id, those without an id last."""
    order = np.lexsort((ids, distances))[:, :n]
    return np.take_along_axis(ids, order, 1), np.take_along_axis(distances, order, 1)
