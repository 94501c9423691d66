"""Lloyd's steps on the nodes of a Ray cluster: each node has shards of the rows, and this machine adds up their sums.

The rows are sent to the nodes once, by this machine. A step sends k centroids to each shard and gets k sums back, so
its traffic does not depend on the number of rows. A shard whose node is lost is sent to another one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from imgindex.clustering.lloyd import Lloyd
from imgindex.clustering.shard import ShardSums, whole_blocks
from imgindex.nodes.cluster import Answer, Cluster, Lost, Worker
from imgindex.types import OnProgress, Progress
from imgindex.vectors.rows import Labels, VectorRows

WORK = "imgindex.clustering.shard:Shards"
# Rows are sent in parts of so many bytes.
PART_BYTES = 32 << 20
# Seconds that nodes which are being started are waited for after the first one is ready.
GATHER_SECONDS = 20.0
TICK = 0.5


class RayClusters(AbstractContextManager["RayClusters"]):
    """Makes clusters whose steps the nodes of a cluster compute; called as `Lloyd` is, with the same rows each time.

    address: HOST:PORT of the cluster, or local. shards: how many parts at most; None for one a worker.
    """

    def __init__(
        self, address: str, *, device: str = "auto", shards: int | None = None, on_progress: OnProgress
    ) -> None:
        self._address, self._device, self._count, self._on_progress = address, device, shards, on_progress
        self._shards: _Shards | None = None

    def __call__(self, points: VectorRows, k: int) -> Lloyd:
        """Return k clusters of the points. Raises ClusterUnavailable."""
        if self._shards is None:
            work = float(len(points)) * k * points.dimension
            options = {"k": k, "origin": points.origin, "device": self._device, "work": work}
            cluster = Cluster(self._address, WORK, options, use_gpus=self._device != "cpu").__enter__()
            self._shards = _Shards(cluster, points, self._count)
        self._shards.begin()
        return ShardedLloyd(points, k, self._shards, self._on_progress)

    def __exit__(self, *raised: object) -> None:
        if self._shards is not None:
            self._shards.cluster.close()


class ShardedLloyd(Lloyd):
    """Clusters of points that lie in shards on other machines."""

    def __init__(self, points: VectorRows, k: int, shards: _Shards, on_progress: OnProgress) -> None:
        super().__init__(points, k)
        self._shards, self._on_progress = shards, on_progress
        self._labels_are_here = True

    @property
    def labels(self) -> Labels:
        """The labels (n,), which are fetched when they are asked for."""
        if not self._labels_are_here:
            for places, part in zip(self._shards.places, self._shards.ask("labels"), strict=True):
                self._labels[places] = part
            self._labels_are_here = True
        return self._labels

    @labels.setter
    def labels(self, labels: Labels) -> None:
        self._labels = labels

    def take(self, labels: Labels) -> None:
        self._add_up(self._shards.step("adopt", [labels[places] for places in self._shards.places]))

    def assign(self) -> None:
        centroids = self.centroids.copy()
        found = self._shards.step("assign", [centroids] * len(self._shards.places))
        self._add_up(found)
        self.objective = sum(one.objective for one in found)
        n = len(self.points)
        self._on_progress(Progress("k-means", n, n, nodes=self._shards.cluster.nodes))

    def exact_objective(self) -> float:
        return float(sum(self._shards.ask("squares", self.centroids)))

    def _add_up(self, found: Sequence[ShardSums]) -> None:
        self.sums = np.sum([one.sums for one in found], axis=0)
        self.sizes = np.sum([one.sizes for one in found], axis=0)
        self.moved += sum(one.moved for one in found)
        self._labels_are_here = False


class _Shards:
    """The shards of some points on the workers of a cluster."""

    def __init__(self, cluster: Cluster, points: VectorRows, count: int | None) -> None:
        self.cluster, self._points = cluster, points
        # The worker of each shard that was sent.
        self._owners: dict[int, Worker] = {}
        workers = self._wait_for_workers()
        self.places = whole_blocks(points, count or workers)
        # The call that gave the rows of each shard their labels, for a shard that has to be sent again.
        self._states: list[tuple[str, Any] | None] = [None] * len(self.places)

    def begin(self) -> None:
        """Begin new clusters in all shards."""
        self._states = [None] * len(self.places)
        self._each(lambda number: ("begin", None))

    def step(self, method: str, arguments: Sequence[Any]) -> list[ShardSums]:
        """Make a step in each shard, with an argument for each."""
        found: list[ShardSums] = self._each(lambda number: (method, arguments[number]))
        self._states = [(method, argument) for argument in arguments]
        return found

    def ask(self, method: str, *arguments: Any) -> list[Any]:
        """Return what a method returns in each shard."""
        return self._each(lambda number: (method, *arguments))

    def _wait_for_workers(self) -> int:
        """Wait until all workers are ready, or some for a while; return how many."""
        first = None
        while True:
            self._answers({}, TICK)
            if self.cluster.ready and first is None:
                first = time.monotonic()
            is_waiting = any(worker.info is None for worker in self.cluster.workers.values())
            if first is not None and (not is_waiting or time.monotonic() - first > GATHER_SECONDS):
                return len(self.cluster.ready)

    def _each(self, call: Callable[[int], tuple[Any, ...]]) -> list[Any]:
        """Call a method of each shard, all at once; where one is lost, again after it was sent to another node."""
        answers: dict[int, Any] = {}
        while missing := [number for number in range(len(self.places)) if number not in answers]:
            for number in missing:
                if number not in self._owners:
                    self._send(number)
            tickets = {self._call(number, *call(number)): number for number in missing if number in self._owners}
            answers |= self._collect(tickets)
        return [answers[number] for number in range(len(self.places))]

    def _send(self, number: int) -> None:
        """Send a shard to the ready worker that has the fewest; it has an owner afterwards unless that was lost."""
        while not self.cluster.ready:
            self._answers({}, TICK)
        load = [owner.key for owner in self._owners.values()]
        self._owners[number] = min(self.cluster.ready, key=lambda worker: (load.count(worker.key), worker.key))
        places = self.places[number]
        rows = max(1, PART_BYTES // (4 * self._points.dimension))
        for start in range(places.start, places.stop, rows):
            part = self._points.raw(slice(start, min(start + rows, places.stop)))
            if not self._collect({self._call(number, "extend", part): number}):
                return
        self._collect({self._call(number, "begin", self._states[number]): number})

    def _call(self, number: int, method: str, *arguments: Any) -> int:
        return self.cluster.call(self._owners[number], "on", number, method, *arguments)

    def _collect(self, tickets: dict[int, int]) -> dict[int, Any]:
        """Return the answers by the numbers of the shards; those whose worker is lost are missing."""
        answers: dict[int, Any] = {}
        while any(number in self._owners and number not in answers for number in tickets.values()):
            answers |= self._answers(tickets, TICK)
        return answers

    def _answers(self, tickets: dict[int, int], seconds: float) -> dict[int, Any]:
        """Return the answers that come in some seconds; shards of lost workers have no owner any more."""
        answers: dict[int, Any] = {}
        for event in self.cluster.events(seconds):
            if isinstance(event, Answer) and event.ticket in tickets:
                answers[tickets[event.ticket]] = event.value
            elif isinstance(event, Lost):
                for number in [number for number, owner in self._owners.items() if owner is event.worker]:
                    del self._owners[number]
        return answers
