"""Finds where k-means should begin: seeds, then splits and merges clusters, in a small sketch of the points.

A *sketch* is the centred points on a few directions that hold most of their variance. A k-means step there costs a
thirtieth of one on 4096 numbers, so there is time to search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgindex.clustering.lloyd import TOLERANCE, Lloyd
from imgindex.errors import UsageError
from imgindex.types import Vectors
from imgindex.vectors.pca import orthonormal, principal_directions, project
from imgindex.vectors.rows import Doubles, Labels, VectorRows, centre_far_rows

# Rows that choose the directions of a sketch, and products with their covariance: of two, the second is of the
# directions that the first one found.
SAMPLE, PASSES = 4096, 2
# Numbers in a sketch that cost next to nothing: 1,024 rows of 256.
FEW_NUMBERS = 1 << 18
# Rows, at least, among which seeds are chosen.
SEEDED = 20_000
# Rows among which the centroids beside those of anchors are chosen.
ANCHORED = 1 << 16


def sketch_width(n: int, k: int) -> int:
    """Return how many directions tell k clusters apart, whose means span k − 1; more where n rows make that cheap.

    Among few rows the directions are not surer than the clusters, and dropping some shifts the optimum that is found.
    """
    return min(256, max(64, k + 28, FEW_NUMBERS // n))


def principal_sketch(points: VectorRows, mean: Doubles, width: int, rng: np.random.Generator) -> Vectors:
    """Return the centred points on at most `width` directions that hold most of their variance, float32 (n, ≤ width).

    The best subspace keeps the k-means objective where a random one only keeps distances (Cohen et al. 2015).
    """
    return project(points, mean, _sketch_basis(points, mean, width, rng))


def _sketch_basis(points: VectorRows, mean: Doubles, width: int, rng: np.random.Generator) -> Vectors:
    """Return an orthonormal basis (d, ≤ width) of directions that hold most of the variance of the points.

    All d directions where they are no more than `width`; otherwise the principal ones of some 4,096 rows, evenly taken.
    """
    if points.dimension <= width:
        return np.eye(points.dimension, dtype=np.float32)
    sample = points.sample_evenly(SAMPLE)
    return principal_directions(sample, mean, width, rng=rng, spare=0, passes=PASSES).directions


def greedy_seeds(sketch: Vectors, k: int, rng: np.random.Generator, *, centres: Vectors | None = None) -> Labels:
    """Return the places (k,) of rows of the sketch (n, m) that greedy k-means++ chooses, far from each other.

    centres (c, m): where clusters begin already; the rows are chosen far from these too.

    Arthur and Vassilvitskii 2007, section 4: the best of 2 + ln k candidates a step, as scikit-learn does; of some
    20,000 rows or 20 a cluster, evenly taken.
    """
    step = max(1, len(sketch) // max(SEEDED, 20 * k))
    sketch = sketch[::step]
    n = len(sketch)
    lengths = np.einsum("ij,ij->i", sketch, sketch)
    trials = 2 + int(np.log(max(k, 1)))
    chosen = np.empty(k, np.int64)
    nearest = np.full(n, np.inf, np.float32)
    for centre in () if centres is None else centres:
        np.minimum(nearest, _squares(sketch, lengths, centre[None])[0], out=nearest)
    for number in range(k):
        if np.isinf(nearest[0]):
            candidates = rng.integers(n, size=1)
        else:
            mass = np.cumsum(nearest, dtype=np.float64)
            candidates = np.searchsorted(mass, rng.random(trials) * mass[-1], side="right").clip(max=n - 1)
        squares = np.minimum(_squares(sketch, lengths, sketch[candidates]), nearest)
        best = int(squares.sum(axis=1).argmin())
        nearest, chosen[number] = squares[best], candidates[best]
    return chosen * step


def _squares(rows: Vectors, lengths: Vectors, centres: Vectors) -> Vectors:
    """Return the squared distances (c, n) of rows (n, m), whose squared lengths are (n,), to centres (c, m)."""
    squares: Vectors = (-2 * centres) @ rows.T
    sums = lengths + np.einsum("ij,ij->i", centres, centres)[:, None]
    # The difference of equal rows is a rounding error; drawing by it would seed one point twice.
    sums *= np.float32(1 - 1e-6)
    squares += sums
    return np.clip(squares, 0, None, out=squares)


def anchored_centroids(points: VectorRows, examples: Sequence[Vectors], k: int, *, seed: int) -> Vectors:
    """Return k centroids (k, d): the mean of each of the examples (m, d), then rows that greedy k-means++ chooses.

    Raises UsageError for fewer clusters than examples.
    """
    if k < len(examples):
        raise UsageError(
            f"k={k} is less than the number of anchors, {len(examples)}",
            hint=f"give `k={len(examples)}` or more",
        )
    anchors = np.stack([example.mean(axis=0, dtype=np.float64) for example in examples]).astype(np.float32)
    if k == len(examples):
        return anchors
    points, mean = centre_far_rows(points)
    sample = points.sample_evenly(ANCHORED)
    rng = np.random.default_rng([seed, 0])
    basis = _sketch_basis(sample, mean, sketch_width(len(sample), k), rng)
    centres = project(VectorRows.of(anchors - points.origin), mean, basis)
    chosen = greedy_seeds(project(sample, mean, basis), k - len(examples), rng, centres=centres)
    return np.concatenate([anchors, sample[chosen] + points.origin])


def search_start(sketch: Vectors, k: int, rng: np.random.Generator, tries: int) -> Labels:
    """Return the best labels (n,) that `tries` greedy seedings find in the sketch."""
    points = VectorRows.of(sketch)
    best = Lloyd(points, k)
    for _ in range(tries):
        found = Lloyd(points, k)
        found.centroids = sketch[greedy_seeds(sketch, k, rng)]
        found.run(6, TOLERANCE)
        found = split_and_merge(sketch, found)
        found.run(found.steps + 50, TOLERANCE)
        if found.objective < best.objective:
            best = found
    return best.labels


def settle_in_span(clusters: Lloyd, mean: Doubles, limit: int, tolerance: float) -> bool:
    """Make Lloyd's steps two at a time, and between them many cheap ones in the span of the centroids.

    Distances within a subspace rank the centroids in it as full distances do. So k-means in their span is k-means,
    except for the part of new centroids that lies outside it. Returns whether the full steps settled, as `Lloyd.run`.
    """
    middle = mean.astype(np.float32)
    while not (settled := clusters.run(min(clusters.steps + 2, limit), tolerance)) and clusters.steps < limit:
        offsets = clusters.centroids - middle
        basis = orthonormal(offsets.T)
        inner = Lloyd(VectorRows.of(project(clusters.points, mean, basis)), len(offsets))
        inner.centroids = np.matmul(offsets, basis, dtype=np.float32)
        inner.run(50, tolerance)
        clusters.adopt(inner.labels)
    return settled


def split_and_merge(sketch: Vectors, clusters: Lloyd, rounds: int = 8) -> Lloyd:
    """Merge the clusters that cost least to merge and split those that gain most, while the objective falls.

    K-means cannot move a centroid across a gap; this can, without chance (Kaukoranta, Fränti and Nevalainen 1998).
    """
    for _ in range(rounds):
        moved = _exchange(sketch, clusters)
        if moved is None:
            break
        trial = Lloyd(clusters.points, len(moved))
        trial.centroids = moved
        trial.run(4, TOLERANCE)
        if trial.objective >= clusters.objective * (1 - 1e-4):
            break
        clusters = trial
    return clusters


def _exchange(sketch: Vectors, clusters: Lloyd) -> Vectors | None:
    centroids, sizes = clusters.centroids, clusters.sizes
    order = np.argsort(clusters.labels, kind="stable")
    members = np.split(order, np.cumsum(sizes)[:-1])
    halves = [_halve(sketch[rows]) for rows in members]
    by_gain = sorted(range(len(centroids)), key=lambda c: -halves[c].gain)
    moved, used = centroids.copy(), np.zeros(len(centroids), bool)
    for cost, keep, free in _merges(centroids, sizes):
        if used[keep] or used[free]:
            continue
        split = next((c for c in by_gain if not used[c] and c not in (keep, free)), None)
        if split is None or halves[split].gain <= cost:
            break
        weights = sizes[[keep, free]] / max(sizes[keep] + sizes[free], 1)
        moved[keep] = weights @ centroids[[keep, free]]
        moved[free], moved[split] = halves[split].means
        used[[keep, free, split]] = True
    return moved if used.any() else None


def _merges(centroids: Vectors, sizes: Labels) -> list[tuple[float, int, int]]:
    """Return (rise of the objective, cluster, cluster) of the cheapest merges, cheapest first, by Ward's formula."""
    lengths = np.einsum("ij,ij->i", centroids, centroids)
    squared = (lengths + lengths[:, None] - 2 * (centroids @ centroids.T)).clip(0)
    costs = squared * (sizes * sizes[:, None] / np.maximum(sizes + sizes[:, None], 1))
    first, second = np.triu_indices(len(centroids), 1)
    cost = costs[first, second]
    cheapest = np.argsort(cost, kind="stable")[: 8 * len(centroids)]
    return [(float(cost[i]), int(first[i]), int(second[i])) for i in cheapest]


@dataclass(frozen=True, slots=True)
class _Halves:
    """How much the objective falls when a cluster is split in two, and the means (2, m) of the halves."""

    gain: float
    means: Vectors


def _halve(members: Vectors) -> _Halves:
    centre = members.mean(axis=0) if len(members) else np.zeros(members.shape[1], np.float32)
    found = _Halves(0.0, np.stack([centre, centre]))
    if len(members) < 2:
        return found
    offsets = members - centre
    direction = offsets[np.einsum("ij,ij->i", offsets, offsets).argmax()]
    for _ in range(3):
        direction = offsets.T @ (offsets @ direction)
        direction /= max(float(np.linalg.norm(direction)), 1e-30)
    side = offsets @ direction > 0
    for _ in range(8):
        right = int(side.sum())
        left = len(side) - right
        if not left or not right:
            break
        mean_right = side.astype(np.float32) @ offsets / np.float32(right)
        mean_left = mean_right * np.float32(-right / left)
        squares = float(mean_right @ mean_right), float(mean_left @ mean_left)
        found = _Halves(right * squares[0] + left * squares[1], centre + np.stack([mean_right, mean_left]))
        now = offsets @ (mean_right - mean_left) > (squares[0] - squares[1]) / 2
        if np.array_equal(now, side):
            break
        side = now
    return found
