"""Exact search: FAISS compares each query with every stored row, straight from the mapped segments."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from imgindex.types import Neighbours, Rows, Vectors

# Bytes of rows taken into memory at once where they must be copied: as float32, or without those that are hidden.
COPIED_BYTES = 16 << 20
# Rows taken beyond the n that are wanted: what rounding has put into the wrong order among them is put right by their
# true distances.
SPARE = 8
# FAISS finds the neighbours of many queries by ‖q‖² + ‖x‖² − 2q·x, which is fast and, where rows are much nearer
# to the query than to the origin, all rounding. A few queries are compared with each row directly.
DIRECT = 16
# So many bytes of rows are compared while a thread begins.
THREAD_BYTES = 4 << 20

Ids = npt.NDArray[np.int64]
Shown = npt.NDArray[np.bool_]
Halves = npt.NDArray[np.float16]


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
        candidates = _compared if len(queries) <= DIRECT else _multiplied
        for block in filter(lambda block: len(block.ids), self.blocks):
            rows = candidates(block, queries, n + SPARE)
            found = np.where(rows >= 0, block.ids[rows], -1)
            ids = np.hstack([ids, found])
            distances = np.hstack([distances, true_distances(block, queries, rows)])
            ids, distances = nearest(ids, distances, n)
        return Neighbours(ids, distances)


def _compared(block: Rows, queries: Vectors, n: int) -> Ids:
    """Row numbers (q, n) of a block nearest to each query, by comparing every row; -1 where there are fewer.

    FAISS would leave each query to one thread: here threads share the rows, so that a single query has all of them.
    """
    vectors = np.asarray(block.vectors)
    compare = _compare_halves if vectors.dtype == np.float16 else _compare
    threads = max(1, min(faiss.omp_get_max_threads(), vectors.nbytes // THREAD_BYTES))
    starts = [len(vectors) * part // threads for part in range(threads)]
    shares = np.split(vectors, starts[1:]), np.split(block.ids >= 0, starts[1:])
    with ThreadPoolExecutor(threads, initializer=faiss.omp_set_num_threads, initargs=(1,)) as pool:
        found = list(pool.map(partial(compare, queries, n), *shares))
    rows = np.hstack([np.where(rows >= 0, start + rows, -1) for start, (_, rows) in zip(starts, found, strict=True)])
    return nearest(rows, np.hstack([squares for squares, _ in found]), n)[0]


def _compare(queries: Vectors, n: int, vectors: Vectors, shown: Shown) -> tuple[Vectors, Ids]:
    """Squared distances and row numbers (q, n) of the nearest float32 rows that are shown; -1 where there are fewer."""
    squares, rows = _none(queries, n)
    # faiss.knn knows no selector, the function behind it does; so hidden rows cost no copy of the others.
    x, y, out_squares, out_rows = (faiss.swig_ptr(array) for array in (queries, vectors, squares, rows))
    faiss.knn_L2sqr(x, y, vectors.shape[1], len(queries), len(vectors), n, out_squares, out_rows, None, _only(shown))
    return squares, rows


def _compare_halves(queries: Vectors, n: int, vectors: Halves, shown: Shown) -> tuple[Vectors, Ids]:
    """Do the same with float16 rows as they are: they are the codes of a quantiser of FAISS, which scans them."""
    squares, rows = _none(queries, n)
    codec = faiss.ScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16)
    selector = _only(shown)  # which the scanner does not keep alive
    scanner = codec.select_InvertedListScanner(faiss.METRIC_L2, None, True, selector)
    scanner.set_list(0, 0.0)
    codes = faiss.swig_ptr(vectors.view(np.uint8))
    for query, *out in zip(queries, squares, rows, strict=True):
        scanner.set_query(faiss.swig_ptr(query))
        scanner.scan_codes(len(vectors), codes, None, *map(faiss.swig_ptr, out), n)
    return squares, rows


def _only(shown: Shown) -> Any:
    return None if shown.all() else faiss.IDSelectorBitmap(np.packbits(shown, bitorder="little"))


def _none(queries: Vectors, n: int) -> tuple[Vectors, Ids]:
    return np.full((len(queries), n), np.inf, dtype=np.float32), np.full((len(queries), n), -1, dtype=np.int64)


def _multiplied(block: Rows, queries: Vectors, n: int) -> Ids:
    """Row numbers (q, n) of a block nearest to each query, by matrix products; -1 where there are fewer."""
    vectors, shown = np.asarray(block.vectors), block.ids >= 0
    # Products skip no rows and know no float16: a piece at a time is copied as they need it.
    copied = vectors.dtype != np.float32 or not shown.all()
    step = max(1, COPIED_BYTES // (4 * vectors.shape[1])) if copied else len(vectors)
    room = np.empty((min(step, len(vectors)) if copied else 0, vectors.shape[1]), dtype=np.float32)
    squares, best = _none(queries, 0)
    for start in range(0, len(vectors), step):
        kept = start + np.flatnonzero(shown[start : start + step])
        if len(kept):
            piece = _copy(vectors, kept, room) if copied else vectors
            of_piece, rows = _multiply(queries, min(n, len(kept)), piece)
            best, squares = nearest(np.hstack([best, kept[rows]]), np.hstack([squares, of_piece]), n)
    return best


def _copy(vectors: Vectors | Halves, rows: Ids, room: Vectors) -> Vectors:
    """Copy rows, given by their rising numbers, into the first rows of a room, and return these."""
    piece = room[: len(rows)]
    if vectors.dtype == np.float16:
        whole = len(rows) == rows[-1] - rows[0] + 1
        codes = (vectors[rows[0] : rows[-1] + 1] if whole else vectors[rows]).view(np.uint8)
        codec = faiss.ScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16)
        codec.decode_c(faiss.swig_ptr(codes), faiss.swig_ptr(piece), len(piece))  # by all threads
    else:
        np.take(vectors, rows, axis=0, out=piece, mode="clip")  # or it would be copied twice
    return piece


def _multiply(queries: Vectors, n: int, vectors: Vectors) -> tuple[Vectors, Ids]:
    """Squared distances and row numbers (q, n ≤ rows) of the nearest rows."""
    squares, rows = faiss.knn(queries, vectors, n)
    if n < len(vectors):
        again = np.flatnonzero(_in_doubt(queries, squares))
        for part in np.split(again, range(DIRECT, len(again), DIRECT)):
            squares[part], rows[part] = _compare(queries[part], n, vectors, np.ones(len(vectors), dtype=np.bool_))
    return squares, rows


def _in_doubt(queries: Vectors, squares: Vectors) -> Shown:
    """Whether (q,) rounding may have kept a row out that is nearer than the SPARE last ones of those found.

    Such a row is no longer than the query and the distance together, and the rounding errors of the dot product add up
    like a random walk: by the root of the dimension.
    """
    length = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
    near, far = squares[:, -1 - SPARE].astype(np.float64), squares[:, -1].astype(np.float64)
    error = np.finfo(np.float32).eps * queries.shape[1] ** 0.5 * (2 * length + np.sqrt(near.clip(0))) ** 2
    doubt: Shown = ~(far - near > 2 * error)
    return doubt


def true_distances(block: Rows, queries: Vectors, rows: Ids) -> Vectors:
    """Euclidean distances (q, n) of rows to their query, computed in float64; infinite where the row is -1."""
    distances = np.full(rows.shape, np.inf, dtype=np.float32)
    vectors = np.asarray(block.vectors)

    def measure(query: Vectors, of_query: Ids, out: Vectors) -> None:
        there = of_query >= 0
        difference = vectors[of_query[there]].astype(np.float64)
        difference -= query
        out[there] = np.sqrt(np.einsum("ij,ij->i", difference, difference))

    if len(queries) <= DIRECT:
        list(map(measure, queries, rows, distances))
    else:
        with ThreadPoolExecutor(faiss.omp_get_max_threads()) as pool:
            list(pool.map(measure, queries, rows, distances))
    return distances


def nearest(ids: Ids, distances: Vectors, n: int) -> tuple[Ids, Vectors]:
    """The n nearest of each row of candidates, ties by id, those without an id last."""
    order = np.lexsort((ids, distances))[:, :n]
    return np.take_along_axis(ids, order, 1), np.take_along_axis(distances, order, 1)
