"""Ranks candidates by codes of eight bits a component, so that few of the long rows themselves are read."""

from __future__ import annotations

from typing import Any

import numpy as np

from imgindex.search.exact import for_each_query, scan_codes
from imgindex.types import Ids, Vectors
from imgindex.vectors.faiss_library import faiss

# Candidates for each row that is read: where codes have ranked them, the nearest are among the first few.
PER_ROW = 16


def new_codes(sample: Vectors) -> Any:
    """Return FAISS's index of codes of points like those of a sample (n, m), which takes ids and holds none yet."""
    codes = faiss.IndexScalarQuantizer(sample.shape[1], faiss.ScalarQuantizer.QT_8bit)
    codes.train(sample)
    return faiss.IndexIDMap(codes)


def check_codes(codes: Any, *, dimension: int, ids: Ids) -> None:
    """Raise ValueError unless FAISS has read an index that `new_codes` makes, with points of these ids."""
    inner = faiss.downcast_index(codes.index) if isinstance(codes, faiss.IndexIDMap) else codes
    if not isinstance(codes, faiss.IndexIDMap) or not isinstance(inner, faiss.IndexScalarQuantizer):
        raise ValueError(f"the codes are in a {type(inner).__name__}")
    if (
        inner.sq.qtype != faiss.ScalarQuantizer.QT_8bit
        or inner.metric_type != faiss.METRIC_L2
        or not inner.d == inner.sq.d == inner.code_size == inner.sq.code_size == dimension
        or inner.sq.trained.size() != 2 * dimension
        or inner.codes.size() != len(ids) * dimension
        or not np.array_equal(np.sort(faiss.vector_to_array(codes.id_map)), np.sort(ids))
    ):
        raise ValueError("the codes do not fit the lists")


class Codes:
    """The codes of an index of `new_codes`."""

    def __init__(self, index: Any) -> None:
        self._index = index
        inner, ids = faiss.downcast_index(index.index), faiss.vector_to_array(index.id_map)
        self._codec = inner.sq
        self._codes = faiss.rev_swig_ptr(inner.codes.data(), inner.codes.size()).reshape(-1, inner.code_size)
        self._row = np.zeros(int(ids.max(initial=-1)) + 1, np.int64)
        self._row[ids] = np.arange(len(ids))

    def nearest(self, points: Vectors, ids: Ids, m: int) -> Ids:
        """Return those m (q, m) of candidates (q, k) whose codes are nearest to each point (q, d), in no order.

        An id of −1 is not a candidate; it stands where there are fewer than m.
        """
        found = np.full((len(points), m), -1, np.int64)

        def rank(point: Vectors, of_point: Ids, out: Ids) -> None:
            valid = of_point[of_point >= 0]
            codes, squares = self._codes[self._row[valid]], np.full((1, m), np.inf, np.float32)
            scan_codes(self._codec, codes, point[None], squares, out[None])
            kept = out >= 0
            out[kept] = valid[out[kept]]

        for_each_query(rank, points, ids, found)
        return found
