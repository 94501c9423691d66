"""Groups of rows that are near to each other, from the pairs of rows that are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

Rows = npt.NDArray[np.int64]
Truths = npt.NDArray[np.bool_]


def around_centres(
    count: int, pairs: tuple[Rows, Rows], crowded: Truths, is_near: Callable[[int, Rows], Truths]
) -> Rows:
    """Return for each of `count` rows the row at the centre of its group (count,): itself where it is alone.

    pairs: rows (m,) and rows (m,) that are near. Rows joined by pairs make parts (union-find). In a part, where each
    row is near to the next one, the first and the last may have nothing in common: so a part is cut into groups of
    rows that are near to one of them. The centres are, in turn, the rows with the most pairs.
    crowded: rows (count,) that may have more near ones than pairs tell; is_near then tells for a row and others of its
    part which of these are.
    """
    a, b = pairs
    graph = csr_matrix((np.ones(len(a), dtype=np.float32), (a, b)), shape=(count, count))
    graph = graph + graph.T
    part = connected_components(graph, directed=False)[1]
    by_part = np.argsort(part, kind="stable")
    starts = np.searchsorted(part[by_part], np.arange(part.max(initial=-1) + 2))
    degree = np.diff(graph.indptr)
    order = np.lexsort((np.arange(count), -degree))
    centre = np.full(count, -1, dtype=np.int64)
    for row in order[: np.count_nonzero(degree)].tolist():
        if centre[row] >= 0:
            continue
        centre[row] = row
        near = _free(graph.indices[graph.indptr[row] : graph.indptr[row + 1]], centre)
        centre[near] = row
        if crowded[row]:
            others = _free(by_part[starts[part[row]] : starts[part[row] + 1]], centre)
            centre[others[is_near(row, others)]] = row
    return np.where(centre < 0, np.arange(count), centre)


def _free(rows: Rows, centre: Rows) -> Rows:
    free: Rows = rows[centre[rows] < 0]
    return free
