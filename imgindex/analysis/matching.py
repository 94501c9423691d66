"""Which clusters of two labellings are the same: one to one, by the images that both know."""

from __future__ import annotations

import numpy as np

from imgindex.analysis.points import Labels

# What two clusters share of all images in either, from which on they are one and the same: two of equal size, then,
# have half of their images in common.
SAME = 1 / 3


def partners(before: Labels, after: Labels, *, same: float = SAME) -> dict[int, int]:
    """Return label after → label before of the clusters that are the same, for two labellings (n,) of the same images.

    The pairs that share the most images in all (Kuhn 1955, the Hungarian method), less those that share less than
    `same` of what either holds.
    """
    from scipy.optimize import linear_sum_assignment

    if not len(before):
        return {}
    counts = np.zeros((int(after.max()) + 1, int(before.max()) + 1), np.int64)
    np.add.at(counts, (after, before), 1)
    of_after, of_before = counts.sum(axis=1), counts.sum(axis=0)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    shared = counts[rows, columns]
    either = of_after[rows] + of_before[columns] - shared
    kept = (shared > 0) & (shared >= same * either)
    return dict(zip(rows[kept].tolist(), columns[kept].tolist(), strict=True))
