"""Balanced k-means: clusters of limited size, at nearly the least cost for all rows together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from imgindex.clustering.kmeans import KMeansResult, Run, in_order
from imgindex.clustering.lloyd import Lloyd, distances
from imgindex.errors import UsageError
from imgindex.types import Vectors
from imgindex.vectors.nearest_centroids import nearest_centroids
from imgindex.vectors.rows import Labels, VectorRows

# Nearest centroids that a row may be given to.
CANDIDATES = 32
# Steps in which centroids move to the mean of their rows, at most.
STEPS = 10
# The auction ends after this many rises of prices for each cluster, or this many rows compared where those are more;
# the rows that are still too many are then moved one by one.
ROUNDS, COMPARED_ROWS = 50, 4_000_000
# The least rise of a price, as a share of the mean squared distance to the nearest centroid, and after how many rounds
# for each cluster it has doubled. Clusters that outbid each other by little would take ten times as long.
EPSILON, RISING = 1e-3, 4

Sizes = npt.NDArray[np.int64]


def check_room(k: int, n: int, most: int | None) -> None:
    """Raise UsageError where k clusters of at most `most` rows cannot hold n rows."""
    if most is not None and most * k < n:
        raise UsageError(
            f"k={k} and a limit of {most:,} leave room for {most * k:,} of {n:,} images",
            hint=f"give `k={-(-n // max(most, 1))}` or more, or `max_size={-(-n // max(k, 1))}` or more",
        )


def limit_sizes(points: VectorRows, found: KMeansResult, *, most: int | None = None) -> KMeansResult:
    """Return clusters of at most `most` rows each, or (None) of sizes that differ by at most one.

    A centroid that too many rows prefer raises its price until the rows that lose least go elsewhere: an auction (see
    Bertsekas 1988) in which all rows of a cluster bid at once. Then centroids move to the mean of their rows, and so
    on while the objective falls. The result need not be the optimum; tests compare it with that.

    Raises UsageError where k clusters of that size cannot hold all rows.
    """
    k, n = len(found.centroids), len(points)
    check_room(k, n, most)
    best = None
    centroids = found.centroids - points.origin
    for step in range(1, STEPS + 1):
        near = _nearest(points, centroids)
        room = np.full(k, min(most, n), np.int64) if most is not None else _even(near.labels[:, 0], n, k)
        clusters = Lloyd(points, k)
        clusters.adopt(_auction(points, centroids, near, room))
        centroids = clusters.centroids
        objective = float(distances(points, centroids, clusters.labels).sum())
        if not clusters.sizes.all() or (best is not None and objective >= best.objective * (1 - 1e-6)):
            break
        best = Run(clusters.labels, centroids, objective, found.iterations + step, found.converged)
    if best is None:
        return found
    ordered = in_order(best, points.origin, found.restart_objectives)
    return replace(ordered, init_rows=tuple(found.init_rows[row] for row in ordered.init_rows))


@dataclass(frozen=True, slots=True)
class _Near:
    """The nearest centroids of each row (n, m): their labels and squared distances."""

    labels: npt.NDArray[np.int32]
    squares: Vectors


def _nearest(points: VectorRows, centroids: Vectors) -> _Near:
    m = min(CANDIDATES, len(centroids))
    find = nearest_centroids(centroids, m)
    labels, squares = np.empty((len(points), m), np.int32), np.empty((len(points), m), np.float32)
    for places, block in points.blocks():
        labels[places], squares[places] = find(block)
    return _Near(labels, squares)


def _even(wanted: npt.NDArray[np.int32], n: int, k: int) -> Sizes:
    """Return sizes for n rows in k clusters, one more for the clusters that most rows prefer."""
    room = np.full(k, n // k, np.int64)
    room[np.argsort(-np.bincount(wanted, minlength=k), kind="stable")[: n % k]] += 1
    return room


def _auction(points: VectorRows, centroids: Vectors, near: _Near, room: Sizes) -> Labels:
    """Return labels (n,) by which no cluster has more rows than it has room for."""
    k = len(room)
    prices = np.zeros(k)
    choice = np.zeros(len(near.labels), np.int64)
    labels = near.labels[:, 0].astype(np.int64)
    sizes = np.bincount(labels, minlength=k)
    # The least rise: without it equal rows would pass from one full cluster to the next for ever.
    least = EPSILON * float(near.squares[:, 0].mean(dtype=np.float64))
    for number in range(max(ROUNDS * k, COMPARED_ROWS // len(labels))):
        full = int((sizes - room).argmax())
        excess = int(sizes[full] - room[full])
        if excess <= 0:
            return labels
        inside = np.flatnonzero(labels == full)
        here = np.arange(len(inside))
        costs = near.squares[inside] + prices[near.labels[inside]]
        own = costs[here, choice[inside]]
        costs[here, choice[inside]] = np.inf
        elsewhere = costs.argmin(axis=1)
        loss = costs[here, elsewhere] - own
        leaving = np.argsort(loss, kind="stable")[:excess]
        leaving = leaving[np.isfinite(loss[leaving])]
        if not len(leaving):
            break
        prices[full] += max(0.0, float(loss[leaving[-1]])) + least * (1 + number / (RISING * k))
        choice[inside[leaving]] = elsewhere[leaving]
        labels[inside[leaving]] = near.labels[inside[leaving], elsewhere[leaving]]
        sizes = np.bincount(labels, minlength=k)
    return _move_rest(points, centroids, labels, room)


def _move_rest(points: VectorRows, centroids: Vectors, labels: Labels, room: Sizes) -> Labels:
    """Move excess rows to the nearest centroids that have room, first those that lose least."""
    labels, sizes = labels.copy(), np.bincount(labels, minlength=len(room))
    for full in np.flatnonzero(sizes > room).tolist():
        inside, free = np.flatnonzero(labels == full), np.flatnonzero(sizes < room)
        rows = points[inside].astype(np.float64)
        costs = np.stack([((rows - centroids[label]) ** 2).sum(axis=1) for label in free])
        costs -= ((rows - centroids[full]) ** 2).sum(axis=1)
        while sizes[full] > room[full]:
            to, row = np.unravel_index(costs.argmin(), costs.shape)
            labels[inside[row]] = free[to]
            costs[:, row] = np.inf
            sizes[full] -= 1
            sizes[free[to]] += 1
            if sizes[free[to]] == room[free[to]]:
                costs[to] = np.inf
    return labels
