"""Lloyd's steps over all points: each point takes its nearest centroid, each centroid the mean of its points."""

from __future__ import annotations

import numpy as np

from imgindex.types import Vectors
from imgindex.vectors.rows import Doubles, Labels, VectorRows

# A step that gains less than this share of the objective is hardly above the rounding of float32 products.
TOLERANCE = 1e-5


class Lloyd:
    """k clusters of points: labels (n,), -1 at first; centroids (k, d), moved in `steps`; objective after `assign`.

    sizes (k,), sums (k, d): of the points of each cluster. moved: points whose label changed since the last `update`.
    The sum of each cluster is kept in float64. Only points that change their cluster are added to it and subtracted
    from it: towards the end there are few.
    """

    def __init__(self, points: VectorRows, k: int) -> None:
        self.points = points
        self.labels = np.full(len(points), -1, np.int64)
        self.centroids = np.zeros((k, points.dimension), np.float32)
        self.objective, self.steps = np.inf, 0
        self.sizes = np.zeros(k, np.int64)
        self.sums = np.zeros((k, points.dimension))
        self.moved = 0  # since the centroids were the means

    def adopt(self, labels: Labels) -> None:
        """Use the labels (n,) given; the centroids become the means."""
        self.take(labels)
        self.update()

    def take(self, labels: Labels) -> None:
        """Use the labels (n,) given; the centroids stay."""
        for places, block in self.points.blocks():
            self._move(places, block, labels[places])

    def assign(self) -> None:
        """Label each point by its nearest centroid.

        The objective comes from float32 products, good to about 1e-6: enough to compare steps, not to report.
        """
        total = 0.0
        for block in self.points.nearest(self.centroids):
            self._move(block.places, block.rows, block.labels)
            total += float(block.squares.sum(dtype=np.float64))
        self.objective = total

    def update(self) -> None:
        """Move each centroid to the mean of its points; that of an empty cluster stays."""
        filled = self.sizes > 0
        self.centroids[filled] = self.sums[filled] / self.sizes[filled, None]
        self.steps, self.moved = self.steps + 1, 0

    def run(self, limit: int, tolerance: float = 0.0) -> bool:
        """Step until no label changes, or a step gains at most a share `tolerance`; return whether that happened.

        limit: of the steps of these clusters, including those of earlier calls.
        """
        self.assign()
        while self.moved:
            if self.steps >= limit:
                return False
            before = self.objective
            self.update()
            self.assign()
            if before - self.objective <= tolerance * self.objective and tolerance:
                break
        return True

    def exact_objective(self) -> float:
        """Return the sum of the squared distances of the points to their own centroids, from differences."""
        return float(distances(self.points, self.centroids, self.labels).sum())

    def _move(self, places: slice, block: Vectors | None, labels: Labels) -> None:
        old = self.labels[places]
        moved = np.flatnonzero(labels != old)
        if not len(moved):
            return
        if block is None:
            rows = self.points[places.start + moved]
        else:
            rows = block if len(moved) == len(block) else block[moved]
        self._add(rows, labels[moved], 1)
        if old[0] >= 0:
            self._add(rows, old[moved], -1)
        self.labels[places] = labels
        self.moved += len(moved)

    def _add(self, rows: Vectors, labels: Labels, sign: int) -> None:
        sizes = np.bincount(labels, minlength=len(self.sizes))
        rows, start = rows[np.argsort(labels, kind="stable")], 0
        for label in np.flatnonzero(sizes).tolist():
            end = start + int(sizes[label])
            self.sums[label] += sign * rows[start:end].sum(axis=0, dtype=np.float64)
            start = end
        self.sizes += sign * sizes


def distances(points: VectorRows, centroids: Vectors, labels: Labels) -> Doubles:
    """Return each point's squared distance (n,) to its centroid, from differences: products would round more."""
    result = np.empty(len(points))
    for places, block in points.blocks():
        offsets = block - centroids[labels[places]]
        result[places] = np.einsum("ij,ij->i", offsets, offsets, dtype=np.float64)
    return result


def fill_empty(points: VectorRows, centroids: Vectors, labels: Labels) -> tuple[Vectors, Labels]:
    """Move each empty cluster's centroid to the point farthest from its own, and give it the points now nearer to it.

    This ends because every move lowers the exact objective: where there are k distinct points and an empty cluster,
    some cluster has a point that is not at its centroid.
    """
    centroids, labels = centroids.copy(), labels.copy()
    own = distances(points, centroids, labels)
    while True:
        sizes = np.bincount(labels, minlength=len(centroids))
        if sizes.all():
            return centroids, labels
        empty = int(sizes.argmin())
        farthest = np.where(sizes[labels] > 1, own, -1).argmax()
        centroids[empty] = points[np.array([farthest])][0]
        moved = distances(points, centroids, np.full(len(points), empty))
        nearer = moved < own
        labels[nearer], own[nearer] = empty, moved[nearer]
