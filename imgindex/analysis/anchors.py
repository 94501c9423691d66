"""Where k-means begins when a person gives examples: at their means, and then where nothing of them is near."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imgindex.analysis.points import Points
from imgindex.errors import UsageError
from imgindex.types import Vectors

# Rows among which further starts are chosen.
SAMPLE = 1 << 16


def starts(points: Points, examples: Sequence[Vectors], k: int, *, seed: int) -> Vectors:
    """Return k centroids (k, d): the mean of each of the examples (m, d), then rows that k-means++ draws.

    Arthur & Vassilvitskii 2007, section 4: the best of 2 + ln k candidates a step. Raises UsageError for fewer clusters
    than examples.
    """
    if k < len(examples):
        raise UsageError(f"{len(examples)} anchors do not go into {k} clusters", hint=f"say -k {len(examples)} or more")
    rng = np.random.default_rng([seed, 0])
    rows = points.evenly(SAMPLE)[:] + points.origin
    centroids = [example.mean(axis=0, dtype=np.float64).astype(np.float32) for example in examples]
    nearest = np.full(len(rows), np.inf)
    for centroid in centroids:
        nearest = np.minimum(nearest, _squares(rows, centroid))
    while len(centroids) < k:
        mass = np.cumsum(nearest)
        drawn = rng.random(2 + int(np.log(k))) * mass[-1]
        candidates = np.searchsorted(mass, drawn, side="right").clip(max=len(rows) - 1)
        lower = [np.minimum(nearest, _squares(rows, rows[candidate])) for candidate in candidates]
        best = int(np.argmin([squares.sum() for squares in lower]))
        nearest = lower[best]
        centroids.append(rows[candidates[best]])
    return np.stack(centroids)


def _squares(rows: Vectors, centroid: Vectors) -> Vectors:
    offsets = rows - centroid
    squares: Vectors = np.einsum("ij,ij->i", offsets, offsets, dtype=np.float64)
    return squares
