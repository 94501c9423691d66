"""What runs on a node of a cluster: Lloyd's steps over a part of the rows, whose sums the head adds up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from imgindex.clustering.lloyd import Lloyd, distances
from imgindex.clustering.nearest import on_device
from imgindex.encoders.devices import cpu_threads
from imgindex.types import Vectors
from imgindex.vectors.rows import Doubles, Labels, VectorRows


@dataclass(frozen=True, slots=True)
class ShardSums:
    """What a step found in a shard: sums (k, d) and sizes (k,) of the clusters, how many rows moved, and objective."""

    sums: Doubles
    sizes: Labels
    moved: int
    objective: float


class Shards:
    """The shards of a worker, by number; the parameters are those of each `Shard`."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._shards: dict[int, Shard] = {}

    def describe(self) -> int:
        """Return how many threads compute."""
        return cpu_threads()

    def on(self, number: int, method: str, *arguments: Any) -> Any:
        """Call a method of a shard."""
        if number not in self._shards:
            self._shards[number] = Shard(**self._options)
        return getattr(self._shards[number], method)(*arguments)


class Shard:
    """Some whole blocks of the rows, with their labels.

    k: how many clusters. origin (d,): what the rows are less. device: what finds the nearest centroids, as in
    `on_device`; work: multiplications in a step over the rows of all shards.
    """

    def __init__(self, *, k: int, origin: Vectors, device: str, work: float) -> None:
        self._k, self._origin, self._device, self._work = k, origin, device, work
        self._parts: list[npt.NDArray[Any]] = []
        self._clusters: Lloyd | None = None

    def extend(self, rows: npt.NDArray[Any]) -> None:
        """Take rows (n, d) of any float type, which follow those that were taken before."""
        self._parts.append(rows)

    def begin(self, restored: tuple[str, Any] | None) -> None:
        """Begin new clusters; `restored`: a call that gives the rows the labels that they had on a lost node."""
        points = VectorRows.of(np.concatenate(self._parts)) if len(self._parts) > 1 else VectorRows.of(self._parts[0])
        self._parts = [points.parts[0]]
        points = on_device(replace(points, origin=self._origin), self._device, self._work)
        self._clusters = Lloyd(points, self._k)
        if restored is not None:
            method, argument = restored
            getattr(self, method)(argument)

    def adopt(self, labels: Labels) -> ShardSums:
        """Give the rows these labels (n,)."""
        return self._step(lambda clusters: clusters.take(labels))

    def assign(self, centroids: Vectors) -> ShardSums:
        """Label each row by its nearest centroid."""

        def assign(clusters: Lloyd) -> None:
            clusters.centroids = centroids
            clusters.assign()

        return self._step(assign)

    def labels(self) -> Labels:
        """Return the labels (n,)."""
        return self._own.labels

    def squares(self, centroids: Vectors) -> float:
        """Return the sum of the squared distances of the rows to their own centroids, from differences."""
        return float(distances(self._own.points, centroids, self._own.labels).sum())

    @property
    def _own(self) -> Lloyd:
        assert self._clusters is not None
        return self._clusters

    def _step(self, step: Callable[[Lloyd], None]) -> ShardSums:
        moved = self._own.moved
        step(self._own)
        return ShardSums(self._own.sums, self._own.sizes, self._own.moved - moved, self._own.objective)


def whole_blocks(points: VectorRows, count: int) -> Sequence[slice]:
    """Return the places of at most `count` shards, as equal as whole blocks of rows allow.

    Products of matrices of other shapes would round otherwise, and points between two centroids get the other label.
    """
    blocks = list(points.slices())
    edges = np.linspace(0, len(blocks), min(count, len(blocks)) + 1).round().astype(int)
    return [slice(blocks[a].start, blocks[b - 1].stop) for a, b in pairwise(edges)]
