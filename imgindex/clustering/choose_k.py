"""Chooses the number of clusters: scores each k by objective, silhouette and agreement of restarts."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from imgindex.clustering import seeding
from imgindex.clustering.metrics import silhouette_scores
from imgindex.errors import TooFewDistinctVectors, UsageError
from imgindex.results import KScore
from imgindex.types import Ids, Vectors
from imgindex.vectors.rows import Labels, VectorRows, centre_far_rows

# Rows that are clustered for each k, and rows among which silhouettes are computed: 2,000 × 2,000 distances.
CLUSTERED, COMPARED = 8_000, 2_000
SKETCH_WIDTH = 64
STARTS = 3
# Images that are this much nearer than the median distance are nearly copies: the same picture encoded again.
COPY = 0.1
# The numbers that `-k auto` tries where there are enough images.
AUTO = range(2, 41)


def score_each_k(points: VectorRows, ks: Iterable[int], *, seed: int = 42) -> Iterator[KScore]:
    """Yield the score of each k, on at most 8,000 rows evenly taken, in a sketch of 64 principal directions.

    Silhouettes (Rousseeuw 1987) are those of at most 2,000 rows among each other. Raises UsageError for a k below 2,
    TooFewDistinctVectors for a k that is not below the number of rows.
    """
    points, mean = centre_far_rows(points)
    points = points.sample_evenly(CLUSTERED)
    ks = list(ks)
    # All are checked before the first one is scored.
    for k in ks:
        if k < 2:
            raise UsageError(
                f"k is {k}: the silhouette compares 2 clusters or more",
                hint="give `k=None`, or a range such as `k=range(2, 41)`",
            )
        if k >= len(points):
            raise TooFewDistinctVectors(f"k must be less than the number of images, {len(points)}, not {k}")
    sketch = seeding.principal_sketch(points, mean, SKETCH_WIDTH, np.random.default_rng([seed, 0]))
    sketch -= sketch.mean(axis=0)
    total = float(np.einsum("ij,ij->", sketch, sketch, dtype=np.float64))
    compared = np.arange(0, len(sketch), max(1, len(sketch) // COMPARED))
    distances = _distances(sketch[compared])
    for k in ks:
        starts = [
            seeding.search_start(sketch, k, np.random.default_rng([seed, k, start]), 1) for start in range(STARTS)
        ]
        objectives = [_objective(sketch, labels, k) for labels in starts]
        best = starts[int(np.argmin(objectives))]
        yield KScore(
            k=k,
            objective=min(objectives) / total if total else 0.0,
            silhouette=_mean_silhouette(distances, best[compared], k),
            stability=_mean_agreement(starts),
        )


def best_k(scores: Sequence[KScore]) -> int:
    """Return the k with the greatest silhouette, the smallest k where several have it."""
    return max(scores, key=lambda score: (score.silhouette, -score.k)).k


def share_of_copies(points: VectorRows, crcs: Ids) -> float:
    """Return the share 0…1 of images that are copies of another image, or nearly, which makes silhouettes greater.

    crcs: the CRC32s (n,) of the vectors. Equal vectors are counted among all of them; near ones, whose distance is at
    most a tenth of the median distance, among at most 4,000 rows evenly taken.
    """
    if len(points) < 2:
        return 0.0
    _, numbers = np.unique(crcs, return_counts=True)
    equal = float(numbers[numbers > 1].sum()) / len(crcs)
    points, mean = centre_far_rows(points)
    distances = _distances(points.sample_evenly(COMPARED)[:] - mean.astype(np.float32))
    median = float(np.median(distances[np.triu_indices(len(distances), 1)]))
    np.fill_diagonal(distances, np.inf)
    return max(equal, float((distances.min(axis=1) <= COPY * median).mean()))


def default_range(count: int) -> range:
    """Return the numbers of clusters to try for `count` images: 2 to 40, and at least three images a cluster."""
    return range(AUTO.start, max(AUTO.start + 1, min(AUTO.stop, count // 3 + 1)))


def _distances(rows: Vectors) -> Vectors:
    squares = np.einsum("ij,ij->i", rows, rows)
    found: Vectors = np.sqrt((squares + squares[:, None] - 2 * (rows @ rows.T)).clip(0))
    np.fill_diagonal(found, 0)
    return found


def _mean_silhouette(distances: Vectors, labels: Labels, k: int) -> float:
    among = np.ones(len(labels), np.bool_)
    return float(silhouette_scores(distances, labels, labels, among=among, k=k).mean(dtype=np.float64))


def _mean_agreement(labellings: Sequence[Labels]) -> float:
    """Return the mean adjusted Rand index of all pairs of labellings."""
    from sklearn.metrics import adjusted_rand_score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of more clusters than half the rows, as few images may have
        return float(
            np.mean(
                [
                    adjusted_rand_score(one, other)
                    for number, one in enumerate(labellings)
                    for other in labellings[:number]
                ]
            )
        )


def _objective(sketch: Vectors, labels: Labels, k: int) -> float:
    sizes = np.bincount(labels, minlength=k)
    # As a product: numpy's add.at takes twenty times as long.
    members = np.zeros((k, len(labels)))
    members[labels, np.arange(len(labels))] = 1
    sums = members @ sketch
    total = float(np.einsum("ij,ij->", sketch, sketch, dtype=np.float64))
    return total - float((sums**2 / np.maximum(sizes, 1)[:, None]).sum())
