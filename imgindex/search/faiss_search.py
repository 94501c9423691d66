"""Search in large collections: FAISS proposes, the true distances decide, and rows newer than FAISS's are searched too.

Whatever the FAISS index holds, an answer speaks of the rows as they are now: their ids, their distances in float64.
Only whether a near row is proposed at all is left to FAISS, and how often it is, the receipt says.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any, BinaryIO

import faiss
import numpy as np
import numpy.typing as npt

from imgindex.search.exact import SPARE, ExactSearch, nearest, true_distances
from imgindex.types import Neighbours, Rows, Vectors

# How many neighbours of each query the recall of a receipt speaks of; whoever asks for more has more lists looked at.
NEIGHBOURS = 10
# What a file begins with that FAISS wrote of an IndexIVFRaBitQFastScan, and of an IndexPreTransform before one.
MAGIC = (b"Iwrn", b"IxPT")
# Rows whose codes FAISS scans together.
BLOCK = 32

logger = logging.getLogger(__name__)
_limit = threading.Lock()

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an index is and how well it answers.

    factory: what FAISS's index_factory made it of. nlist: lists that the rows are divided into; nprobe: of these, how
    many a search looks into; refine: candidates taken from there for every answer.
    rows: how many it holds. recall: the share of the 10 true neighbours that were found, for `queries` stored rows.
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
        """Whether the index finds what it was meant to; where it does not, an exact search is the better one."""
        return self.recall >= self.target

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Receipt:
        """Return the receipt that `to_json` wrote. Raises ValueError where it is none."""
        data = json.loads(text)
        kinds = {field.name: field.type for field in fields(cls)}
        if not isinstance(data, dict) or {name: type(value).__name__ for name, value in data.items()} != kinds:
            raise ValueError(f"no receipt of a search index: {text[:200]}")
        receipt = cls(**data)
        if not (1 <= receipt.nprobe <= receipt.nlist and receipt.refine >= 1 and receipt.rows >= 0):
            raise ValueError(f"a receipt that cannot be: {text[:200]}")
        return receipt


class FaissSearch:
    """Searches an index that FAISS holds and, exactly, the rows that it does not hold; implements `VectorSearch`.

    Images that were updated, hidden or shown again since the index was built are found where they are now, or not at
    all. The answer to one of many queries may differ from its answer alone only where FAISS's recall lets it.
    """

    def __init__(self, index: Any, receipt: Receipt, blocks: Sequence[Rows], covered: Sequence[int]) -> None:
        """Join an index (ids as FAISS ids) with the blocks as they are now, where -1 is the id of a hidden row.

        covered: of how many leading rows of each block the index was built. Rows are only ever appended, so that an
        id among the covered rows belongs to the vector that the index has under it, if it has one.
        """
        self.index, self.receipt, self.blocks = index, receipt, blocks
        starts = np.cumsum([0, *covered])
        ids = np.concatenate([np.empty(0, np.int64), *(b.ids[:rows] for b, rows in zip(blocks, covered, strict=True))])
        held = (ids >= 0) & np.isin(ids, stored_ids(index))
        self._exact = ExactSearch(
            [
                part
                for block, rows, start in zip(blocks, covered, starts[:-1].tolist(), strict=True)
                for part in _left_to_exact(block, rows, held[start : start + rows])
            ]
        )
        places = np.flatnonzero(held)
        places = places[np.argsort(ids[places], kind="stable")]
        self._ids: Ids = ids[places]
        self._block = np.searchsorted(starts, places, side="right") - 1
        self._row = places - starts[self._block]
        self._selector = None
        if len(places) < index.ntotal:
            shown = np.zeros(int(self._ids[-1]) + 1 if len(places) else 1, dtype=np.bool_)
            shown[self._ids] = True
            self._selector = faiss.IDSelectorBitmap(np.packbits(shown, bitorder="little"))

    def search(self, queries: Vectors, n: int) -> Neighbours:
        """Return the n nearest rows of float32 queries (q, dimension), ties by id; id -1 where there are fewer."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        exact = self._exact.search(queries, n)
        if not len(self._ids):
            return exact
        ids, distances = self._nearest(queries, self._candidates(queries, n), n)
        return Neighbours(*nearest(np.hstack([exact.ids, ids]), np.hstack([exact.distances, distances]), n))

    def _candidates(self, queries: Vectors, n: int) -> Ids:
        """Ids (q, k) of rows that are shown and may be among the n nearest: at least n, if the index has so many."""
        wanted = min(n, len(self._ids))
        k = min(self.receipt.refine * max(n, NEIGHBOURS) + SPARE, len(self._ids))
        # As many rows for each neighbour that is wanted as there were when recall was measured, hidden ones left out.
        scale = max(1.0, n / NEIGHBOURS) * self.index.ntotal / len(self._ids)
        nprobe = min(math.ceil(self.receipt.nprobe * scale), self.receipt.nlist)
        found = np.full((len(queries), k), -1, dtype=np.int64)
        todo = np.arange(len(queries))
        while len(todo):
            how = lists = faiss.SearchParametersIVF(nprobe=nprobe, sel=self._selector)
            if isinstance(self.index, faiss.IndexPreTransform):
                how = faiss.SearchParametersPreTransform(index_params=lists)
            with _threads(min(len(todo), faiss.omp_get_max_threads())):
                found[todo] = self.index.search(queries[todo], k, params=how)[1]
            if nprobe == self.receipt.nlist:
                break
            todo = todo[(found[todo] >= 0).sum(axis=1) < wanted]
            nprobe = min(2 * nprobe, self.receipt.nlist)
        return found

    def _nearest(self, queries: Vectors, ids: Ids, n: int) -> tuple[Ids, Vectors]:
        """The n nearest of candidates (q, k), an id of -1 being none, with their true distances."""
        places = np.searchsorted(self._ids, ids).clip(max=len(self._ids) - 1)
        rows = [
            np.where((ids >= 0) & (self._block[places] == i), self._row[places], -1) for i in range(len(self.blocks))
        ]
        squares = np.full(ids.shape, np.inf, dtype=np.float32)
        for block, of_block in zip(self.blocks, rows, strict=True):
            compared = np.unique(of_block[of_block >= 0])
            if len(compared):
                block.check(compared)
                squares = np.minimum(squares, _squares(block, queries, of_block))
        # Float32 tells which few are worth true distances, which take several times as long.
        kept = np.argsort(squares, axis=1, kind="stable")[:, : n + SPARE]
        distances = np.full(kept.shape, np.inf, dtype=np.float32)
        for block, of_block in zip(self.blocks, rows, strict=True):
            few = np.take_along_axis(of_block, kept, 1)
            if (few >= 0).any():
                distances = np.minimum(distances, true_distances(block, queries, few))
        return nearest(np.take_along_axis(ids, kept, 1), distances, n)


def _squares(block: Rows, queries: Vectors, rows: Ids) -> Vectors:
    """Squared distances (q, k) of rows to their query in float32; infinite where the row is -1."""
    squares = np.full(rows.shape, np.inf, dtype=np.float32)
    vectors, there = np.asarray(block.vectors), rows >= 0
    if vectors.dtype == np.float32:
        of_query, of_row = (np.ascontiguousarray(part, dtype=np.int64) for part in (there.nonzero()[0], rows[there]))
        found = np.empty(len(of_row), dtype=np.float32)
        x, y, ix, iy, out = (faiss.swig_ptr(array) for array in (queries, vectors, of_query, of_row, found))
        faiss.pairwise_indexed_L2sqr(vectors.shape[1], len(of_row), x, ix, y, iy, out)
        squares[there] = found
    else:
        for query, of_query, valid, out in zip(queries, rows, there, squares, strict=True):
            difference = vectors[of_query[valid]] - query
            out[valid] = np.einsum("ij,ij->i", difference, difference)
    return squares


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let FAISS use so many threads here: one query takes a tenth of a millisecond, a busy core's thread longer."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _left_to_exact(block: Rows, covered: int, held: npt.NDArray[np.bool_]) -> Iterator[Rows]:
    """Yield the rows of a block that FAISS does not hold: newer ones, and those that were hidden when it was built."""
    for start, ids, vectors in (
        (0, np.where(held, -1, block.ids[:covered]), block.vectors[:covered]),
        (covered, block.ids[covered:], block.vectors[covered:]),
    ):
        shown = np.flatnonzero(ids >= 0)
        if len(shown):
            part = slice(int(shown[0]), int(shown[-1]) + 1)
            yield Rows(ids[part], vectors[part], partial(_check_from, block, start + part.start))


def _check_from(block: Rows, start: int, rows: Ids) -> None:
    block.check(start + rows)


def stored_ids(index: Any) -> Ids:
    """Return the ids that an IVF index holds, list after list."""
    lists = faiss.extract_index_ivf(index).invlists
    sizes = [(number, lists.list_size(number)) for number in range(lists.nlist)]
    parts = [faiss.rev_swig_ptr(lists.get_ids(number), size) for number, size in sizes if size]
    return np.concatenate([np.empty(0, np.int64), *parts])


def save(index: Any, file: BinaryIO) -> None:
    """Write an index through a file's `write`, whose OSError comes through. Never give FAISS a path to write to."""
    faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))


def load(file: BinaryIO, size: int, receipt: Receipt) -> Any | None:
    """Read an index of `size` bytes that `save` wrote; None where the file does not hold what the receipt says.

    Give it only files whose sha256 is known: FAISS trusts much of what it reads. It takes no more memory for any one
    part than the file has bytes.
    """
    try:
        if file.read(len(MAGIC[0])) not in MAGIC:
            raise ValueError("another type of index")
        file.seek(0)
        with _reading_at_most(size):
            index = faiss.read_index(faiss.PyCallbackIOReader(file.read))
        if file.read(1):
            raise ValueError("more than an index")
        _check(index, receipt)
    # FAISS raises RuntimeError; the others come from the file, from sizes that cannot be, and from _check.
    except (RuntimeError, OSError, MemoryError, ValueError) as error:
        logger.info("the search index is to be made again: %s", error)
        return None
    return index


@contextlib.contextmanager
def _reading_at_most(size: int) -> Iterator[None]:
    """Let FAISS allocate at most `size` bytes for one array that it reads; the limit is the whole process's."""
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


def _check(index: Any, receipt: Receipt) -> None:
    """Raise ValueError unless FAISS read what `build` made."""
    dimension = receipt.dimension
    if isinstance(index, faiss.IndexPreTransform):
        transform = faiss.downcast_VectorTransform(index.chain.at(0)) if index.chain.size() == 1 else None
        dimension = index.index.d
        if (
            not isinstance(transform, faiss.LinearTransform)
            or (index.d, transform.d_in, transform.d_out) != (receipt.dimension, receipt.dimension, dimension)
            or (transform.A.size(), transform.b.size()) != (receipt.dimension * dimension, dimension)
        ):
            raise ValueError("another reduction than the receipt says")
        index = faiss.downcast_index(index.index)
    if not isinstance(index, faiss.IndexIVFRaBitQFastScan):
        raise ValueError(f"a {type(index).__name__}")
    centroids, lists = faiss.downcast_index(index.quantizer), faiss.downcast_InvertedLists(index.invlists)
    if not isinstance(centroids, faiss.IndexFlat) or not isinstance(lists, faiss.BlockInvertedLists):
        raise ValueError(f"centroids in a {type(centroids).__name__}, lists in a {type(lists).__name__}")
    is_so = {
        "dimension": index.d == centroids.d == index.rabitq.d == dimension,
        "metric": index.metric_type == centroids.metric_type == index.rabitq.metric_type == faiss.METRIC_L2,
        "training": index.is_trained and index.by_residual,
        "code": index.rabitq.nb_bits == 1 and index.bbs == lists.n_per_block == BLOCK,
        "lists": index.nlist == lists.nlist == centroids.ntotal == receipt.nlist,
        "rows": index.ntotal == receipt.rows == sum(map(lists.list_size, range(lists.nlist))),
    }
    wrong = [name for name, so in is_so.items() if not so]
    if wrong:
        raise ValueError(f"another {', '.join(wrong)} than the receipt says")
