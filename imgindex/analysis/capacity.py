"""Clusters of bounded size: each row goes to the nearest centroid that has room, at the least cost for all."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from imgindex.analysis.kmeans import KMeansResult, Run, in_order
from imgindex.analysis.lloyd import Lloyd, distances
from imgindex.analysis.points import Labels, Points
from imgindex.errors import UsageError
from imgindex.types import Vectors

# Centroids that are near enough to a row for it to go there.
CANDIDATES = 32
# Times that centroids move to the middle of their rows.
STEPS = 10
# Rises of prices, for each cluster, before what is still too much is moved at once; and rows looked at, at least.
ROUNDS, LOOKS = 50, 4_000_000
# The least rise of a price, as a share of the mean squared distance to the nearest centroid.
EPSILON = 1e-3

Sizes = npt.NDArray[np.int64]


def limit(points: Points, found: KMeansResult, *, most: int | None = None) -> KMeansResult:
    """Return clusters of at most `most` rows each, or (None) of sizes that differ by at most one.

    Each centroid that too many rows want raises its price until the ones that lose least by it go elsewhere (an
    auction as Bertsekas 1988 has it, with all the rows of a cluster bidding at once); then centroids move to the middle
    of their rows, and so on while the objective falls. Not proven to be the optimum: tests compare it with that.

    Raises UsageError where k clusters of that size cannot hold all rows.
    """
    k, n = len(found.centroids), len(points)
    if most is not None and most * k < n:
        raise UsageError(
            f"{k} clusters of at most {most} images hold {most * k}, not {n}",
            hint=f"say -k {-(-n // max(most, 1))} or more, or --max-size {-(-n // k)} or more",
        )
    best = None
    centroids = found.centroids - points.origin
    for step in range(1, STEPS + 1):
        near = _nearest(points, centroids)
        room = np.full(k, most, np.int64) if most is not None else _even(near.labels[:, 0], n, k)
        clusters = Lloyd(points, k)
        clusters.adopt(_place(points, centroids, near, room))
        centroids = clusters.centroids
        objective = float(distances(points, centroids, clusters.labels).sum())
        if not clusters.sizes.all() or (best is not None and objective >= best.objective * (1 - 1e-6)):
            break
        best = Run(clusters.labels, centroids, objective, found.iterations + step, found.converged)
    if best is None:
        return found
    ordered = in_order(best, points.origin, found.restart_objectives)
    return replace(ordered, starts=tuple(found.starts[start] for start in ordered.starts))


@dataclass(frozen=True, slots=True)
class _Near:
    """The nearest centroids of each row (n, m): their labels and squared distances."""

    labels: npt.NDArray[np.int32]
    squares: Vectors


def _nearest(points: Points, centroids: Vectors) -> _Near:
    import faiss

    index = faiss.IndexFlatL2(centroids.shape[1])
    index.add(np.ascontiguousarray(centroids))
    m = min(CANDIDATES, len(centroids))
    labels, squares = np.empty((len(points), m), np.int32), np.empty((len(points), m), np.float32)
    for places, block in points.blocks():
        squares[places], labels[places] = index.search(block, m)
    return _Near(labels, squares)


def _even(wanted: npt.NDArray[np.int32], n: int, k: int) -> Sizes:
    """Room for n rows in k clusters, one more in those that most rows want."""
    room = np.full(k, n // k, np.int64)
    room[np.argsort(-np.bincount(wanted, minlength=k), kind="stable")[: n % k]] += 1
    return room


def _place(points: Points, centroids: Vectors, near: _Near, room: Sizes) -> Labels:
    k = len(room)
    prices = np.zeros(k)
    choice = np.zeros(len(near.labels), np.int64)
    labels = near.labels[:, 0].astype(np.int64)
    sizes = np.bincount(labels, minlength=k)
    # By less than this no price rises: equal rows would pass from one full cluster to the next for ever.
    least = EPSILON * float(near.squares[:, 0].mean(dtype=np.float64))
    for _ in range(max(ROUNDS * k, LOOKS // len(labels))):
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
        prices[full] += max(0.0, float(loss[leaving[-1]])) + least
        choice[inside[leaving]] = elsewhere[leaving]
        labels[inside[leaving]] = near.labels[inside[leaving], elsewhere[leaving]]
        sizes = np.bincount(labels, minlength=k)
    return _move_rest(points, centroids, labels, room)


def _move_rest(points: Points, centroids: Vectors, labels: Labels, room: Sizes) -> Labels:
    """Move what is too much to the nearest centroids that have room, those first that lose least."""
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
