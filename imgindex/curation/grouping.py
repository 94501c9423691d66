"""Groups of rows that are near to each other, from the pairs of near rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def groups_around_centres(
    count: int, pairs: tuple[Rows, Rows], crowded: Mask, is_near: Callable[[int, Rows], Mask]
) -> Rows:
    """Return for each of `count` rows the row at the centre of its group (count,): itself for a row on its own.

    Rows that pairs connect form components. In a component each row is near to the next one, but the first and the last
    may have nothing in common. So each component is cut into groups, whose rows are all near to the group's centre. The
    rows with the most pairs become centres first.

    pairs: two arrays of rows (m,), near to each other. crowded: rows (count,) that may have more near rows than pairs;
    for such a row, is_near returns which of the other rows of its component are near.
    """
    a, b = pairs
    graph = csr_matrix((np.ones(len(a), dtype=np.float32), (a, b)), shape=(count, count))
    graph = graph + graph.T
    component = connected_components(graph, directed=False)[1]
    by_component = np.argsort(component, kind="stable")
    starts = np.searchsorted(component[by_component], np.arange(component.max(initial=-1) + 2))
    degree = np.diff(graph.indptr)
    order = np.lexsort((np.arange(count), -degree))
    centre = np.full(count, -1, dtype=np.int64)
    for row in order[: np.count_nonzero(degree)].tolist():
        if centre[row] >= 0:
            continue
        centre[row] = row
        near = _ungrouped(graph.indices[graph.indptr[row] : graph.indptr[row + 1]], centre)
        centre[near] = row
        if crowded[row]:
            others = _ungrouped(by_component[starts[component[row]] : starts[component[row] + 1]], centre)
            centre[others[is_near(row, others)]] = row
    return np.where(centre < 0, np.arange(count), centre)


def _ungrouped(rows: Rows, centre: Rows) -> Rows:
    ungrouped: Rows = rows[centre[rows] < 0]
    return ungrouped
