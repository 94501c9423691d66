"""Exact search: FAISS compares each query with every stored row, straight from the mapped segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from imgindex.types import Ids, Neighbours, VectorBlock, Vectors
from imgindex.vectors.faiss_library import faiss

# Bytes of rows copied into memory at once, where they must be: as float32, or without the rows of missing images.
COPIED_BYTES = 16 << 20
# Candidates beyond the n that are asked for: rounding may order them wrongly, and their true distances then correct the
# order.
SPARE = 8
# FAISS finds the neighbours of many queries by ‖q‖² + ‖x‖² − 2q·x. That is fast, but leaves only rounding errors where
# rows are much nearer to the query than to the origin. Up to this many queries are compared with each row directly.
DIRECT = 16
# Bytes of rows that are compared in the time that a thread takes to start.
THREAD_BYTES = 4 << 20

Mask = npt.NDArray[np.bool_]
Halves = npt.NDArray[np.float16]
Codes = npt.NDArray[np.uint8]


class ExactSearch:
    """Searches blocks of rows one after another; implements `VectorSearch`.

    Blocks may be memory maps of float32 or float16. Rows whose id is -1 are never found.

    Raises IndexDamaged when a row is not what was stored.
    """

    def __init__(self, blocks: Sequence[VectorBlock]) -> None:
        self.blocks = blocks
        for block in blocks:
            block.check(np.flatnonzero(block.ids >= 0))

    def search(self, queries: Vectors, n: int) -> Neighbours:
        """Return the n nearest rows of float32 queries (q, dimension), ties by id; id -1 where there are fewer."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        ids = np.full((len(queries), n), -1, dtype=np.int64)
        distances = np.full((len(queries), n), np.inf, dtype=np.float32)
        candidates = _compare_all if len(queries) <= DIRECT else _multiply_all
        for block in filter(lambda block: len(block.ids), self.blocks):
            rows = candidates(block, queries, n + SPARE)
            found = np.where(rows >= 0, block.ids[rows], -1)
            ids = np.hstack([ids, found])
            distances = np.hstack([distances, true_distances(block, queries, rows)])
            ids, distances = nearest(ids, distances, n)
        return Neighbours(ids, distances)


def _compare_all(block: VectorBlock, queries: Vectors, n: int) -> Ids:
    """Return row numbers (q, n) of a block nearest to each query, by comparing every row; -1 where there are fewer.

    FAISS would give each query one thread. Here threads share the rows, so that a single query uses all of them.
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


def _compare(queries: Vectors, n: int, vectors: Vectors, present: Mask) -> tuple[Vectors, Ids]:
    """Return squared distances and numbers (q, n) of the nearest present float32 rows; -1 where there are fewer."""
    squares, rows = _empty_result(queries, n)
    # faiss.knn takes no selector, but the function that it calls does: so rows need not be copied to leave some out.
    x, y, out_squares, out_rows = (faiss.swig_ptr(array) for array in (queries, vectors, squares, rows))
    faiss.knn_L2sqr(
        x, y, vectors.shape[1], len(queries), len(vectors), n, out_squares, out_rows, None, _selector(present)
    )
    return squares, rows


def _compare_halves(queries: Vectors, n: int, vectors: Halves, present: Mask) -> tuple[Vectors, Ids]:
    """Do the same with float16 rows, uncopied: they are the codes of one of FAISS's quantizers, which can scan them."""
    squares, rows = _empty_result(queries, n)
    codec = faiss.ScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16)
    scan_codes(codec, vectors.view(np.uint8), queries, squares, rows, _selector(present))
    return squares, rows


def scan_codes(codec: Any, codes: Codes, queries: Vectors, squares: Vectors, rows: Ids, selector: Any = None) -> None:
    """Put squared distances and numbers of the nearest codes (m, bytes) into arrays (q, n), in no order.

    The arrays hold infinity and -1 before, and afterwards where there are fewer. codec: FAISS's quantizer of the codes.
    selector: of those that may be found; all by default.
    """
    scanner = codec.select_InvertedListScanner(faiss.METRIC_L2, None, True, selector)
    try:
        scanner.set_list(0, 0.0)
        for query, *out in zip(queries, squares, rows, strict=True):
            scanner.set_query(faiss.swig_ptr(query))
            scanner.scan_codes(len(codes), faiss.swig_ptr(codes), None, *map(faiss.swig_ptr, out), squares.shape[1])
    finally:
        faiss.InvertedListScanner.__swig_destroy__(scanner)  # FAISS's Python would never free its kilobyte


def _selector(present: Mask) -> Any:
    return None if present.all() else faiss.IDSelectorBitmap(np.packbits(present, bitorder="little"))


def _empty_result(queries: Vectors, n: int) -> tuple[Vectors, Ids]:
    return np.full((len(queries), n), np.inf, dtype=np.float32), np.full((len(queries), n), -1, dtype=np.int64)


def _multiply_all(block: VectorBlock, queries: Vectors, n: int) -> Ids:
    """Return row numbers (q, n) of a block nearest to each query, by matrix products; -1 where there are fewer."""
    vectors, present = np.asarray(block.vectors), block.ids >= 0
    # Products cannot skip rows, nor take float16: rows are copied, a piece at a time.
    copied = vectors.dtype != np.float32 or not present.all()
    step = max(1, COPIED_BYTES // (4 * vectors.shape[1])) if copied else len(vectors)
    buffer = np.empty((min(step, len(vectors)) if copied else 0, vectors.shape[1]), dtype=np.float32)
    squares, best = _empty_result(queries, 0)
    for start in range(0, len(vectors), step):
        kept = start + np.flatnonzero(present[start : start + step])
        if len(kept):
            piece = _copy(vectors, kept, buffer) if copied else vectors
            of_piece, rows = _multiply(queries, min(n, len(kept)), piece)
            best, squares = nearest(np.hstack([best, kept[rows]]), np.hstack([squares, of_piece]), n)
    return best


def _copy(vectors: Vectors | Halves, rows: Ids, buffer: Vectors) -> Vectors:
    """Copy rows, given by their rising numbers, into the first rows of `buffer`, and return these."""
    piece = buffer[: len(rows)]
    if vectors.dtype == np.float16:
        whole = len(rows) == rows[-1] - rows[0] + 1
        codes = (vectors[rows[0] : rows[-1] + 1] if whole else vectors[rows]).view(np.uint8)
        codec = faiss.ScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16)
        codec.decode_c(faiss.swig_ptr(codes), faiss.swig_ptr(piece), len(piece))  # uses all threads
    else:
        np.take(vectors, rows, axis=0, out=piece, mode="clip")  # the default mode copies twice
    return piece


def _multiply(queries: Vectors, n: int, vectors: Vectors) -> tuple[Vectors, Ids]:
    """Return squared distances and row numbers (q, n ≤ rows) of the nearest rows."""
    squares, rows = faiss.knn(queries, vectors, n)
    if n < len(vectors):
        again = np.flatnonzero(_may_be_incomplete(queries, squares))
        for part in np.split(again, range(DIRECT, len(again), DIRECT)):
            squares[part], rows[part] = _compare(queries[part], n, vectors, np.ones(len(vectors), dtype=np.bool_))
    return squares, rows


def _may_be_incomplete(queries: Vectors, squares: Vectors) -> Mask:
    """Return whether (q,) rounding may have excluded a row that is nearer than the last SPARE candidates.

    The length of such a row is at most that of the query plus the distance. The rounding errors of a dot product add up
    like a random walk: with the square root of the dimension.
    """
    length = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
    near, far = squares[:, -1 - SPARE].astype(np.float64), squares[:, -1].astype(np.float64)
    error = np.finfo(np.float32).eps * queries.shape[1] ** 0.5 * (2 * length + np.sqrt(near.clip(0))) ** 2
    doubt: Mask = ~(far - near > 2 * error)
    return doubt


def true_distances(block: VectorBlock, queries: Vectors, rows: Ids) -> Vectors:
    """Return Euclidean distances (q, n) of rows to their query, computed in float64; infinite where the row is -1."""
    distances = np.full(rows.shape, np.inf, dtype=np.float32)
    vectors = np.asarray(block.vectors)

    def measure(query: Vectors, of_query: Ids, out: Vectors) -> None:
        valid = of_query >= 0
        # Converted first: a subtraction that converts takes twice as long.
        difference = vectors[of_query[valid]].astype(np.float64)
        difference -= query
        out[valid] = np.sqrt(np.einsum("ij,ij->i", difference, difference))

    for_each_query(measure, queries, rows, distances)
    return distances


def for_each_query(function: Callable[..., None], queries: Vectors, *arrays: npt.NDArray[Any]) -> None:
    """Call a function with each query and its row of each array; in threads where there are many queries."""
    if len(queries) <= DIRECT:
        list(map(function, queries, *arrays))
    else:
        with ThreadPoolExecutor(faiss.omp_get_max_threads()) as pool:
            list(pool.map(function, queries, *arrays))


def nearest(ids: Ids, distances: Vectors, n: int) -> tuple[Ids, Vectors]:
    """Return the n nearest of each row of candidates; ties by id, candidates without an id last."""
    order = np.lexsort((ids, distances))[:, :n]
    query = np.arange(len(ids))[:, np.newaxis]
    return ids[query, order], distances[query, order]
