"""How many clusters there are: a curve over k of objective, silhouette and agreement of restarts, and a choice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from imgindex.analysis import seeding
from imgindex.analysis.agreement import adjusted_rand
from imgindex.analysis.points import Labels, Points, measure
from imgindex.answers.clusterings import KScore
from imgindex.errors import TooFewDistinctVectors, UsageError
from imgindex.types import Vectors

# Rows that are clustered for the curve, and rows among which silhouettes are computed: 2,000 × 2,000 distances.
CLUSTERED, COMPARED = 8_000, 2_000
WIDTH = 64
STARTS = 3
# What auto looks at, where there are enough images.
AUTO = range(2, 41)


def curve(points: Points, ks: Iterable[int], *, seed: int = 42) -> Iterator[KScore]:
    """Yield the score of each k, on at most 8,000 rows evenly taken, in a sketch of 64 principal directions.

    Silhouettes (Rousseeuw 1987) are those of at most 2,000 rows among each other. Raises UsageError for a k below 2,
    TooFewDistinctVectors for one that is not below the number of rows.
    """
    points, mean = measure(points)
    points = points.evenly(CLUSTERED)
    sketch = seeding.principal_sketch(points, mean, WIDTH, np.random.default_rng([seed, 0]))
    sketch -= sketch.mean(axis=0)
    whole = float(np.einsum("ij,ij->", sketch, sketch, dtype=np.float64))
    some = np.arange(0, len(sketch), max(1, len(sketch) // COMPARED))
    distances = _distances(sketch[some])
    for k in ks:
        if k < 2:
            raise UsageError(f"{k} is no number of clusters to choose from", hint="say -k auto, or a range like 2..40")
        if k >= len(sketch):
            raise TooFewDistinctVectors(f"{len(points)} images cannot be told apart into {k} clusters")
        starts = [
            seeding.search_start(sketch, k, np.random.default_rng([seed, k, start]), 1) for start in range(STARTS)
        ]
        objectives = [_objective(sketch, labels, k) for labels in starts]
        best = starts[int(np.argmin(objectives))]
        pairs = [(one, other) for number, one in enumerate(starts) for other in starts[:number]]
        yield KScore(
            k=k,
            objective=min(objectives) / whole if whole else 0.0,
            silhouette=silhouette(distances, best[some]),
            stability=float(np.mean([adjusted_rand(one, other) for one, other in pairs])),
        )


def choose(scores: Sequence[KScore]) -> int:
    """Return the k with the greatest silhouette, the smallest of several."""
    return max(scores, key=lambda score: (score.silhouette, -score.k)).k


def auto_range(count: int) -> range:
    """Return the numbers of clusters that are worth a look for so many images: 2 to 40, and three images for each."""
    return range(AUTO.start, max(AUTO.start + 1, min(AUTO.stop, count // 3 + 1)))


def silhouette(distances: Vectors, labels: Labels) -> float:
    """Return the mean silhouette of rows by their distances (n, n) and labels; alone in a cluster it is 0."""
    present, labels = np.unique(labels, return_inverse=True)
    if len(present) < 2:
        return 0.0
    members = np.zeros((len(labels), len(present)), dtype=np.float32)
    members[np.arange(len(labels)), labels] = 1
    sizes = members.sum(axis=0)
    sums = distances @ members
    own = np.take_along_axis(sums, labels[:, None], 1)[:, 0] / np.maximum(sizes[labels] - 1, 1)
    means = sums / sizes
    means[np.arange(len(labels)), labels] = np.inf
    other = means.min(axis=1)
    scores = np.where(sizes[labels] > 1, (other - own) / np.maximum(np.maximum(own, other), 1e-30), 0.0)
    return float(scores.mean())


def _distances(rows: Vectors) -> Vectors:
    squares = np.einsum("ij,ij->i", rows, rows)
    found: Vectors = np.sqrt((squares + squares[:, None] - 2 * (rows @ rows.T)).clip(0))
    np.fill_diagonal(found, 0)
    return found


def _objective(sketch: Vectors, labels: Labels, k: int) -> float:
    sizes = np.bincount(labels, minlength=k)
    sums = np.zeros((k, sketch.shape[1]))
    np.add.at(sums, labels, sketch)
    total = float(np.einsum("ij,ij->", sketch, sketch, dtype=np.float64))
    return total - float((sums**2 / np.maximum(sizes, 1)[:, None]).sum())
