"""Exact search: FAISS compares each query with every stored row, straight from the mapped segments."""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np
import numpy.typing as npt

from imgindex.types import Neighbours, Rows, Vectors

# Rows taken into memory at once where they must be converted to float32.
CONVERTED_BYTES = 64 << 20
# FAISS finds neighbours of many queries by ‖q‖² + ‖x‖² − 2q·x, whose rounding may swap rows that are almost equally
# near; so a few more are taken, and put into order by their true distances.
SPARE = 8


class ExactSearch:
    """Searches blocks of rows one after another; implements `VectorSearch`.

    Blocks may be memory maps of float32 or float16; rows whose id is -1 are never found.
    """

    def __init__(self, blocks: Sequence[Rows]) -> None:
        self.blocks = blocks

    def search(self, queries: Vectors, n: int) -> Neighbours:
        """Return the n nearest rows of float32 queries (q, dimension), ties by id, exact distances."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        ids = np.full((len(queries), 0), -1, dtype=np.int64)
        distances = np.full((len(queries), 0), np.inf)
        for block in self.blocks:
            rows = _candidates(block, queries, n + SPARE)
            found = np.where(rows >= 0, block.ids[rows], -1)
            ids = np.hstack([ids, found])
            distances = np.hstack([distances, _distances(block, queries, rows)])
            ids, distances = _nearest(ids, distances, n)
        return Neighbours(ids, distances.astype(np.float32))


def _candidates(block: Rows, queries: Vectors, n: int) -> npt.NDArray[np.int64]:
    """Row numbers (q, n) of a block nearest to each query; -1 where there are fewer."""
    step = len(block.ids)
    if block.vectors.dtype != np.float32:
        step = max(1, CONVERTED_BYTES // (4 * block.vectors.shape[1]))
    best = np.full((len(queries), 0), -1, dtype=np.int64)
    near = np.full((len(queries), 0), np.inf, dtype=np.float32)
    for start in range(0, len(block.ids), step):
        vectors = np.ascontiguousarray(block.vectors[start : start + step], dtype=np.float32)
        squares, rows = _knn(queries, vectors, block.ids[start : start + step] >= 0, n)
        best = np.hstack([best, np.where(rows >= 0, rows + start, -1)])
        near = np.hstack([near, np.where(rows >= 0, squares, np.inf)])
        best, near = _nearest(best, near, n)
    return best


def _knn(
    queries: Vectors, vectors: Vectors, shown: npt.NDArray[np.bool_], n: int
) -> tuple[Vectors, npt.NDArray[np.int64]]:
    """Squared distances and row numbers (q, n) of the nearest rows that are shown."""
    n = min(n, len(vectors))
    if shown.all():
        squares, rows = faiss.knn(queries, vectors, n)
        return squares, rows
    # faiss.knn knows no selector, the function behind it does; so hidden rows cost no copy of the others.
    squares = np.empty((len(queries), n), dtype=np.float32)
    rows = np.empty((len(queries), n), dtype=np.int64)
    bits = np.packbits(shown, bitorder="little")
    selector = faiss.IDSelectorBitmap(len(shown), faiss.swig_ptr(bits))
    x, y, out_squares, out_rows = (faiss.swig_ptr(array) for array in (queries, vectors, squares, rows))
    faiss.knn_L2sqr(x, y, vectors.shape[1], len(queries), len(vectors), n, out_squares, out_rows, None, selector)
    return squares, rows


def _distances(block: Rows, queries: Vectors, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Euclidean distances (q, n) of rows to their query, in float64; infinite where the row is -1."""
    distances = np.full(rows.shape, np.inf)
    for query, of_query, out in zip(queries, rows, distances, strict=True):
        there = of_query >= 0
        difference = block.vectors[of_query[there]].astype(np.float64) - query
        out[there] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return distances


def _nearest(
    ids: npt.NDArray[np.int64], distances: npt.NDArray[np.floating], n: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.floating]]:
    """The n nearest of each row of candidates, ties by id, those without an id last."""
    order = np.lexsort((ids, distances))[:, :n]
    return np.take_along_axis(ids, order, 1), np.take_along_axis(distances, order, 1)
