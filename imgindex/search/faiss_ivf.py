"""Searches large collections: FAISS proposes candidates, true distances decide, and newer rows are searched exactly.

Whatever the FAISS index holds, an answer is made of the rows as they are now: their ids, and distances computed in
float64. FAISS only decides whether a near row becomes a candidate; the metadata records how often it does.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial, reduce
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from imgindex.search.exact import SPARE, ExactSearch, nearest, true_distances
from imgindex.search.faiss_codes import PER_ROW, Codes, check_codes
from imgindex.storage.derived import read_metadata
from imgindex.types import Ids, Neighbours, VectorBlock, Vectors
from imgindex.vectors.faiss_library import faiss
from imgindex.vectors.faiss_threads import limited_threads
from imgindex.vectors.pca import Reduction

# How many neighbours of each query the recall counts. A search for more of them visits more lists.
NEIGHBOURS = 10
# The first bytes of FAISS's file of an IndexIVFRaBitQFastScan, and of an IndexPreTransform in front of one.
MAGIC = (b"Iwrn", b"IxPT")
# Rows whose codes FAISS scans together.
BLOCK = 32

logger = logging.getLogger(__name__)
# Numbers of candidates whose true distances take less time than to find those that need them.
FEW_NUMBERS = 1 << 16
# Of float32: what rounding may change of 1, and the largest number that is not infinite.
EPSILON, LARGEST = np.finfo(np.float32).eps, np.finfo(np.float32).max
_limit = threading.Lock()


@dataclass(frozen=True, slots=True)
class SearchMetadata:
    """How an index was built, and how well it answers.

    factory: the argument of FAISS's index_factory. nlist: number of lists that the rows are divided into; nprobe: how
    many of them a search visits; refine: candidates taken from these for every answer. rows: how many it holds.
    recall: the share of the 10 true neighbours that were found, for `queries` stored rows.
    """

    factory: str
    dimension: int
    nlist: int
    nprobe: int
    refine: int
    rows: int
    target: float
    recall: float
    queries: int
    seed: int
    seconds: float

    @property
    def reached(self) -> bool:
        """Whether the recall reaches the target; where it does not, an exact search is better."""
        return self.recall >= self.target

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SearchMetadata:
        """Return the metadata that `to_json` wrote. Raises ValueError for any other text."""
        metadata = read_metadata(cls, text, "a search index")
        if not (1 <= metadata.nprobe <= metadata.nlist and metadata.refine >= 1 and metadata.rows >= 0):
            raise ValueError(f"impossible metadata of a search index: {text[:200]}")
        return metadata


class IvfSearch:
    """Searches an index of FAISS and, exactly, the rows that it does not hold; implements `VectorSearch`.

    Images that were updated, removed or restored since the index was built are found as they are now, or not at all.
    The answers to a query alone and among others may differ, but only in neighbours that FAISS misses.
    """

    def __init__(
        self, index: Any, metadata: SearchMetadata, blocks: Sequence[VectorBlock], covered: Sequence[int]
    ) -> None:
        """Join an index (ids as FAISS ids) with the blocks as they are now, where -1 is the id of a missing row.

        covered: the number of leading rows of each block that the index was built from. Rows are only ever appended.
        So an id among the covered rows belongs to the vector that the index has under that id, if it has one.
        """
        self.metadata, self.blocks = metadata, blocks
        # The index owns its parts.
        self._index, self._parts = index, (parts := parts_of(index))
        starts = np.cumsum([0, *covered])
        ids = np.concatenate([np.empty(0, np.int64), *(b.ids[:rows] for b, rows in zip(blocks, covered, strict=True))])
        held = (ids >= 0) & np.isin(ids, stored_ids(parts.ivf))
        self._exact = ExactSearch(
            [
                part
                for block, rows, start in zip(blocks, covered, starts[:-1].tolist(), strict=True)
                for part in _left_to_exact(block, rows, held[start : start + rows])
            ]
        )
        places = np.flatnonzero(held)
        self._starts, self._count = starts, len(places)
        # The place of each id among the covered rows. The last one stands for the id −1.
        self._places: Ids = np.full(int(ids[places].max(initial=-1)) + 2, -1, dtype=np.int64)
        self._places[ids[places]] = places
        self._reduction = None if parts.reduction is None else Reduction(parts.reduction)
        self._codes = None if parts.codes is None else Codes(parts.codes)
        self._selector = None
        if len(places) < parts.ivf.ntotal:
            self._selector = faiss.IDSelectorBitmap(np.packbits(self._places[:-1] >= 0, bitorder="little"))

    def search(self, queries: Vectors, n: int) -> Neighbours:
        """Return the n nearest rows of float32 queries (q, dimension), ties by id; id -1 where there are fewer."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if not self._count:
            return self._exact.search(queries, n)
        # A query takes 0.1 ms, less than a thread takes to start on a busy core.
        with limited_threads(len(queries)):
            ids, distances = self._nearest(queries, self._candidates(queries, n), n)
        if self._exact.blocks or ids.shape[1] < n:
            exact = self._exact.search(queries, n)
            ids, distances = nearest(np.hstack([exact.ids, ids]), np.hstack([exact.distances, distances]), n)
        return Neighbours(ids, distances)

    def _candidates(self, queries: Vectors, n: int) -> Ids:
        """Return ids (q, k) of present rows that may be among the n nearest: at least n, if the index has that many."""
        nlist = self.metadata.nlist
        wanted, answers = min(n, self._count), max(n, NEIGHBOURS)
        k = min(self.metadata.refine * answers + SPARE, self._count)
        # As many present rows for each neighbour that is asked for as there were when the recall was measured.
        scale = max(1.0, n / NEIGHBOURS) * self._parts.ivf.ntotal / self._count
        nprobe = min(math.ceil(self.metadata.nprobe * scale), nlist)
        points = queries if self._reduction is None else self._reduction.apply(queries)
        found = self._in_lists(points, k, nprobe)
        # FAISS puts −1 behind the rows that it finds.
        while nprobe < nlist and len(todo := np.flatnonzero(found[:, wanted - 1] < 0)):
            nprobe = min(2 * nprobe, nlist)
            found[todo] = self._in_lists(points[todo], k, nprobe)
        if self._codes is None:
            return found
        return self._codes.nearest(points, found, min(-(-self.metadata.refine // PER_ROW) * answers + SPARE, k))

    def _in_lists(self, points: Vectors, k: int, nprobe: int) -> Ids:
        """Return the ids (q, k) of the rows that FAISS thinks nearest in the nearest lists."""
        ivf, how = self._parts.ivf, faiss.SearchParametersIVF(nprobe=nprobe, sel=self._selector)
        graph = faiss.downcast_index(ivf.quantizer)
        if not isinstance(graph, faiss.IndexHNSW) or nprobe <= self.metadata.nlist // 8:
            found: Ids = ivf.search(points, k, params=how)[1]
            return found
        # The graph finds few lists fast, but does not lead to all of them.
        of_lists, lists = graph.storage.search(points, nprobe)
        squares, found = np.empty((len(points), k), np.float32), np.empty((len(points), k), np.int64)
        arrays = (faiss.swig_ptr(array) for array in (lists, of_lists, squares, found))
        ivf.search_preassigned_c(len(points), faiss.swig_ptr(points), k, *arrays, False, how)
        return found

    def _nearest(self, queries: Vectors, ids: Ids, n: int) -> tuple[Ids, Vectors]:
        """Return the n nearest of candidates (q, k) with their true distances; an id of -1 is not a candidate."""
        found = self._rows_of(self._places[ids])
        for block, rows in found:
            block.check(rows[rows >= 0])
        if ids.size * queries.shape[1] > FEW_NUMBERS:
            # True distances take several times as long as these, so only what may be nearest gets them.
            squares = _least([_squares(block, queries, rows) for block, rows in found], ids.shape)
            kept = _may_be_nearest(squares, n, queries.shape[1])
            query = np.arange(len(queries))[:, np.newaxis]
            found = [(block, np.where(kept < 0, -1, rows[query, kept])) for block, rows in found]
            ids = np.where(kept < 0, -1, ids[query, kept])
        distances = _least([true_distances(block, queries, rows) for block, rows in found], ids.shape)
        return nearest(ids, distances, n)

    def _rows_of(self, places: Ids) -> list[tuple[VectorBlock, Ids]]:
        """Return the blocks that have any of the rows, each with their numbers; -1 for the others."""
        if len(self.blocks) == 1:
            return [(self.blocks[0], places)]
        of_block = self._starts.searchsorted(places, side="right") - 1
        return [
            (self.blocks[i], np.where(of_block == i, places - self._starts[i], -1))
            for i in np.unique(of_block[places >= 0]).tolist()
        ]


def _least(of_blocks: list[Vectors], shape: tuple[int, ...]) -> Vectors:
    """Return for each candidate what one of the blocks knows of it; for the others they have infinity."""
    return reduce(np.minimum, of_blocks) if of_blocks else np.full(shape, np.inf, dtype=np.float32)


def _may_be_nearest(squares: Vectors, n: int, dimension: int) -> Ids:
    """Return the columns (q, k ≥ n) of squared distances that may be those of the n nearest; −1 where there are fewer.

    The distances are sums of so many squares in float32, whose rounding may have changed the order.
    """
    kept = squares.argsort(axis=1)
    ordered = squares[np.arange(len(squares))[:, np.newaxis], kept]
    last = ordered[:, min(n, ordered.shape[1]) - 1, np.newaxis] * np.float32(1 + EPSILON * dimension)
    near = ordered <= np.minimum(last, LARGEST)
    width = max(n, int(np.count_nonzero(near.any(axis=0))))
    return np.where(near, kept, -1)[:, :width]


def _squares(block: VectorBlock, queries: Vectors, rows: Ids) -> Vectors:
    """Return squared distances (q, k) of rows to their query in float32; infinite where the row is -1."""
    squares = np.full(rows.shape, np.inf, dtype=np.float32)
    vectors, valid = np.asarray(block.vectors), rows >= 0
    if vectors.dtype == np.float32:
        of_query, of_row = (np.ascontiguousarray(part, dtype=np.int64) for part in (valid.nonzero()[0], rows[valid]))
        found = np.empty(len(of_row), dtype=np.float32)
        x, y, ix, iy, out = (faiss.swig_ptr(array) for array in (queries, vectors, of_query, of_row, found))
        faiss.pairwise_indexed_L2sqr(vectors.shape[1], len(of_row), x, ix, y, iy, out)
        squares[valid] = found
    else:
        for query, of_query, valid_of_query, out in zip(queries, rows, valid, squares, strict=True):
            difference = vectors[of_query[valid_of_query]] - query
            out[valid_of_query] = np.einsum("ij,ij->i", difference, difference)
    return squares


def _left_to_exact(block: VectorBlock, covered: int, held: npt.NDArray[np.bool_]) -> Iterator[VectorBlock]:
    """Yield the rows of a block that FAISS does not hold: newer ones, and those that were missing when it was built."""
    for start, ids, vectors in (
        (0, np.where(held, -1, block.ids[:covered]), block.vectors[:covered]),
        (covered, block.ids[covered:], block.vectors[covered:]),
    ):
        present = np.flatnonzero(ids >= 0)
        if len(present):
            part = slice(int(present[0]), int(present[-1]) + 1)
            yield VectorBlock(ids[part], vectors[part], partial(_check_from, block, start + part.start))


def _check_from(block: VectorBlock, start: int, rows: Ids) -> None:
    block.check(start + rows)


@dataclass(frozen=True, slots=True)
class Parts:
    """An index as `joined` puts it together: maybe a reduction of rows, lists, and codes of the reduced rows."""

    ivf: Any
    reduction: Any | None = None
    codes: Any | None = None


def joined(parts: Parts) -> Any:
    """Return the parts as one index of FAISS, which can be written to a file."""
    if parts.reduction is None:
        return parts.ivf
    return faiss.IndexPreTransform(parts.reduction, faiss.IndexRefine(parts.ivf, parts.codes))


def parts_of(index: Any) -> Parts:
    """Return the parts of an index that `joined` returned. Raises ValueError for another one."""
    if not isinstance(index, faiss.IndexPreTransform):
        return Parts(index)
    inner = faiss.downcast_index(index.index)
    if index.chain.size() != 1 or not isinstance(inner, faiss.IndexRefine):
        raise ValueError(f"reduced rows are in a {type(inner).__name__}")
    reduction = faiss.downcast_VectorTransform(index.chain.at(0))
    return Parts(*(faiss.downcast_index(inner.base_index), reduction, faiss.downcast_index(inner.refine_index)))


def stored_ids(ivf: Any) -> Ids:
    """Return the ids that an IVF index holds, list after list."""
    lists = ivf.invlists
    sizes = [(number, lists.list_size(number)) for number in range(lists.nlist)]
    parts = [faiss.rev_swig_ptr(lists.get_ids(number), size) for number, size in sizes if size]
    return np.concatenate([np.empty(0, np.int64), *parts])


def save(index: Any, file: BinaryIO) -> None:
    """Write an index through a file's `write`, so that its OSError is raised here; FAISS itself would not report it."""
    faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))


def load(file: BinaryIO, size: int, metadata: SearchMetadata) -> Any | None:
    """Return the index of `size` bytes that `save` wrote; None where the file does not fit its metadata.

    The caller must have checked the file's SHA-256: FAISS trusts much of what it reads. No part of the index takes more
    memory than the file has bytes.
    """
    try:
        if file.read(len(MAGIC[0])) not in MAGIC:
            raise ValueError("the file has another type of index")
        file.seek(0)
        with _reading_at_most(size):
            index = faiss.read_index(faiss.PyCallbackIOReader(file.read))
        if file.read(1):
            raise ValueError("bytes follow the index")
        _check(index, metadata)
    # FAISS raises RuntimeError; the others come from the file, from impossible sizes, and from _check.
    except (RuntimeError, OSError, MemoryError, ValueError) as error:
        logger.info("the search index will be rebuilt: %s", error)
        return None
    return index


@contextlib.contextmanager
def _reading_at_most(size: int) -> Iterator[None]:
    """Let FAISS allocate at most `size` bytes for each array that it reads; the limit holds for the whole process."""
    if not hasattr(faiss, "set_deserialization_vector_byte_limit"):
        yield
        return
    with _limit:
        before = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(size)
        try:
            yield
        finally:
            faiss.set_deserialization_vector_byte_limit(before)


def _check(index: Any, metadata: SearchMetadata) -> None:
    """Raise ValueError unless FAISS has read an index that `build` makes, with this metadata."""
    parts = parts_of(index)
    dimension, reduction, index = metadata.dimension, parts.reduction, parts.ivf
    if reduction is not None:
        dimension = index.d
        if (
            not isinstance(reduction, faiss.LinearTransform)
            or (reduction.d_in, reduction.d_out) != (metadata.dimension, dimension)
            or (reduction.A.size(), reduction.b.size()) != (metadata.dimension * dimension, dimension)
        ):
            raise ValueError("the reduction does not fit the metadata")
    if not isinstance(index, faiss.IndexIVFRaBitQFastScan):
        raise ValueError(f"the index is a {type(index).__name__}")
    centroids, lists = faiss.downcast_index(index.quantizer), faiss.downcast_InvertedLists(index.invlists)
    if isinstance(centroids, faiss.IndexHNSWFlat) and centroids.storage is not None:
        centroids = faiss.downcast_index(centroids.storage)
    if not isinstance(centroids, faiss.IndexFlat) or not isinstance(lists, faiss.BlockInvertedLists):
        raise ValueError(f"centroids are in a {type(centroids).__name__}, lists in a {type(lists).__name__}")
    fits = {
        "dimension": index.d == centroids.d == index.rabitq.d == dimension,
        "metric": index.metric_type == centroids.metric_type == index.rabitq.metric_type == faiss.METRIC_L2,
        "training": index.is_trained and index.by_residual,
        "code": index.rabitq.nb_bits == 1 and index.bbs == lists.n_per_block == BLOCK,
        "lists": index.nlist == lists.nlist == centroids.ntotal == metadata.nlist,
        "rows": index.ntotal == metadata.rows == sum(map(lists.list_size, range(lists.nlist))),
    }
    wrong = [name for name, same in fits.items() if not same]
    if wrong:
        raise ValueError(f"the metadata has another {', '.join(wrong)}")
    if parts.codes is not None:
        check_codes(parts.codes, dimension=dimension, ids=stored_ids(index))
