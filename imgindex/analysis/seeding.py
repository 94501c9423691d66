"""Finds where k-means should begin: seeds, then splits and merges clusters, in a small sketch of the points.

A *sketch* is the centred points on a few directions that hold most of their variance. A k-means step there costs a
thirtieth of one on 4096 numbers, so there is time to search.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgindex.analysis.lloyd import TOLERANCE, Lloyd
from imgindex.analysis.points import Doubles, Labels, Points
from imgindex.types import Vectors

# Rows that choose the directions of the sketch.
SAMPLE = 4096
# Numbers in a sketch that cost next to nothing: 1,024 rows of 256.
FEW_NUMBERS = 1 << 18
# Rows, at least, among which seeds are chosen.
SEEDED = 20_000


def sketch_width(n: int, k: int) -> int:
    """Return how many directions tell k clusters apart, whose means span k − 1; more where n rows make that cheap.

    Among few rows the directions are no surer than the clusters, and dropping some shifts the optimum that is found.
    """
    return min(256, max(64, k + 28, FEW_NUMBERS // n))


def principal_sketch(points: Points, mean: Doubles, width: int, rng: np.random.Generator) -> Vectors:
    """Return the centred points on at most `width` directions that hold most of their variance, float32 (n, ≤ width).

    A Gaussian sketch with one power iteration (Halko, Martinsson & Tropp 2011) on some 4,096 rows, evenly taken.
    The best subspace keeps the k-means objective where a random one only keeps distances (Cohen et al. 2015).
    """
    d = points.dimension
    middle = mean.astype(np.float32)
    if d <= width:
        return points[:] - middle
    gauss = rng.standard_normal((d, width), dtype=np.float32)
    directions = np.zeros((d, width), np.float32)
    for _, block in points.evenly(SAMPLE).blocks():
        centred = block - middle
        directions += centred.T @ (centred @ gauss)
    return project(points, middle, orthonormal(directions))


def project(points: Points, middle: Vectors, basis: Vectors) -> Vectors:
    """Return the points less their middle on an orthonormal basis (d, m), float32 (n, m)."""
    sketch = np.empty((len(points), basis.shape[1]), np.float32)
    for places, block in points.blocks():
        np.matmul(block, basis, out=sketch[places])
    sketch -= middle @ basis
    return sketch


def orthonormal(directions: npt.NDArray[np.float32]) -> Vectors:
    """Return an orthonormal basis float32 (d, m' ≤ m) of the columns of directions (d, m), dropping dependent ones."""
    columns = directions.astype(np.float64)
    values, rotation = np.linalg.eigh(columns.T @ columns)
    kept = values > 1e-12 * values[-1]
    if values[-1] <= 0:
        return np.eye(len(columns), 1, dtype=np.float32)
    basis: Vectors = (columns @ (rotation[:, kept] / np.sqrt(values[kept]))).astype(np.float32)
    return basis


def greedy_seeds(sketch: Vectors, k: int, rng: np.random.Generator) -> Vectors:
    """Return k rows of the sketch (k, m) that greedy k-means++ chooses, of some 20,000 or 20 a cluster, evenly taken.

    Arthur & Vassilvitskii 2007, section 4: the best of 2 + ln k candidates a step, as scikit-learn does.
    """
    sketch = sketch[:: max(1, len(sketch) // max(SEEDED, 20 * k))]
    n = len(sketch)
    lengths = np.einsum("ij,ij->i", sketch, sketch)
    trials = 2 + int(np.log(k))
    chosen = np.empty(k, np.int64)
    nearest = np.full(n, np.inf, np.float32)
    candidates = rng.integers(n, size=1)
    for step in range(k):
        if step:
            mass = np.cumsum(nearest, dtype=np.float64)
            candidates = np.searchsorted(mass, rng.random(trials) * mass[-1], side="right").clip(max=n - 1)
        distances = (-2 * sketch[candidates]) @ sketch.T
        sums = lengths + lengths[candidates, None]
        # What is left between equal rows is rounding; drawing by it would seed one point twice.
        sums *= np.float32(1 - 1e-6)
        distances += sums
        np.clip(distances, 0, nearest, out=distances)
        best = int(distances.sum(axis=1).argmin())
        nearest, chosen[step] = distances[best].copy(), candidates[best]
    return sketch[chosen]


def search_start(sketch: Vectors, k: int, rng: np.random.Generator, tries: int) -> Labels:
    """Return the best labels (n,) that some greedy seedings find in the sketch."""
    points = Points.of(sketch)
    best = Lloyd(points, k)
    for _ in range(tries):
        found = Lloyd(points, k)
        found.centroids = greedy_seeds(sketch, k, rng)
        found.run(6, TOLERANCE)
        found = split_and_merge(sketch, found)
        found.run(found.steps + 50, TOLERANCE)
        if found.objective < best.objective:
            best = found
    return best.labels


def settle_in_span(clusters: Lloyd, mean: Doubles, limit: int, tolerance: float) -> bool:
    """Make Lloyd's steps two by two, and between them many in the span of the centroids, where they cost a part.

    For centroids in a subspace, distances within it rank them as whole distances do. So k-means in their span is
    k-means, but for what the new ones hold outside it. Returns whether the whole steps settled, as `Lloyd.run` does.
    """
    middle = mean.astype(np.float32)
    while not (settled := clusters.run(min(clusters.steps + 2, limit), tolerance)) and clusters.steps < limit:
        offsets = clusters.centroids - middle
        basis = orthonormal(offsets.T)
        inner = Lloyd(Points.of(project(clusters.points, middle, basis)), len(offsets))
        inner.centroids = np.matmul(offsets, basis, dtype=np.float32)
        inner.run(50, tolerance)
        clusters.adopt(inner.labels)
    return settled


def split_and_merge(sketch: Vectors, clusters: Lloyd, rounds: int = 8) -> Lloyd:
    """Merge the clusters that cost least to merge and split those that gain most, while the objective falls.

    K-means cannot carry a centroid across a gap; this can, and needs no luck (Kaukoranta, Fränti & Nevalainen 1998).
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
    """List (what the objective rises by, cluster, cluster) for near pairs, cheapest first: Ward's formula."""
    lengths = np.einsum("ij,ij->i", centroids, centroids)
    squared = (lengths + lengths[:, None] - 2 * (centroids @ centroids.T)).clip(0)
    costs = squared * (sizes * sizes[:, None] / np.maximum(sizes + sizes[:, None], 1))
    first, second = np.triu_indices(len(centroids), 1)
    cost = costs[first, second]
    cheapest = np.argsort(cost, kind="stable")[: 8 * len(centroids)]
    return [(float(cost[i]), int(first[i]), int(second[i])) for i in cheapest]


@dataclass(frozen=True, slots=True)
class _Halves:
    """What the objective falls by when a cluster is cut in two, and the means (2, m) of the parts."""

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
