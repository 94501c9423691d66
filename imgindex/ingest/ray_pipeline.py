"""The pipeline of `add` on a Ray cluster: nodes read, decode and embed, and this machine records what they send.

Chunks of the work list go to whichever node has room, so the memory that a run takes does not depend on its length. A
chunk whose node is lost goes to another one. Results come in any order. New ids follow that order; vectors and counts
do not depend on it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from imgindex.encoders.registry import make_encoder
from imgindex.errors import (
    ClusterUnavailable,
    DeviceUnavailable,
    RecipeMismatch,
    SourceUnavailable,
    UnreadableImage,
    WeightsUnavailable,
)
from imgindex.ingest.items import SAMPLES, Failed, Files, Prepared, StageTimes
from imgindex.ingest.node_worker import NodeBatch, NodeFile, NodeInfo, NodeResult
from imgindex.ingest.store_recorder import StoreRecorder
from imgindex.nodes.cluster import Answer, Cluster, Lost, Worker
from imgindex.recipe import Recipe
from imgindex.sources.registry import read_content
from imgindex.types import Encoder, Engine, Failure, FoundFile, Pixels

WORK = "imgindex.ingest.node_worker:NodeWorker"
# Calls that a worker runs at once, so that one decodes while the other waits for the network; one more waits there.
CALLS, WAITING_CALLS = 2, 1
# Files in a chunk: enough that a call costs little, few enough that all nodes have work until the end.
LEAST_FILES, MOST_FILES = 16, 512
CHUNKS_A_WORKER = 8
# How often the caller of `run` can stop it while nothing comes.
TICK = 0.5
# A chunk whose worker was lost is given to another one so often.
ATTEMPTS = 4
NO_PIXELS: Pixels = np.empty((0, 0, 3), np.uint8)


@dataclass(slots=True)
class _Chunk:
    """Files for one call; `attempts`: how many workers were lost with it."""

    files: list[NodeFile]
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class NodeEncoder:
    """Stands for the encoders of the nodes where the precision of a run is measured; implements `MeasuredEncoder`."""

    precision: str
    make_fp32: Callable[[], Encoder]

    def fp32(self) -> Encoder:
        """Return an encoder of this machine. Raises DeviceUnavailable, also where the weights are not here."""
        try:
            return self.make_fp32()
        except (WeightsUnavailable, RecipeMismatch) as error:
            raise DeviceUnavailable(str(error)) from error


class RayPipeline:
    """Takes files to a recorder by the nodes of a cluster; implements `Pipeline`.

    address: HOST:PORT of the cluster, or local. settings: those of the index. weights: where the weights file is.
    engine: how each node computes; its workers are the CPUs that a node gives. hashes: as in `DecoderPool`.

    `run` raises ClusterUnavailable when no node can work, and SourceUnavailable when a node lacks the files.
    """

    def __init__(
        self,
        recorder: StoreRecorder,
        address: str,
        *,
        recipe: Recipe,
        settings: Mapping[str, str],
        weights: str | None,
        engine: Engine,
        hashes: bool,
    ) -> None:
        self.recorder = recorder
        self.stage_times = StageTimes({"the nodes": 0.0, "the disk": 0.0})
        self.samples: list[Prepared] = []
        self.encoder: NodeEncoder | None = None
        self.stopping = False
        self.on_decoded: Callable[[int], None] = lambda count: None
        self.nodes = 0
        options = {
            "recipe": recipe.to_json(),
            "settings": dict(settings),
            "weights": weights,
            "engine": engine,
            "hashes": hashes,
        }
        self._cluster = Cluster(
            address,
            WORK,
            options,
            cpus=engine.workers,
            use_gpus=engine.device != "cpu",
            concurrency=CALLS,
        )
        here = replace(engine, device="auto", precision="fp32")
        self._make_fp32 = lambda: make_encoder(recipe, dict(settings), weights, here)
        self._chunks: dict[int, _Chunk] = {}
        self._again: deque[_Chunk] = deque()
        # Numbers of files that a node could not read although this machine can.
        self._unseen: set[int] = set()
        # By the number of their file, so that a report names them in the order of the files.
        self._failed: list[tuple[int, Failure]] = []

    def run(self, files: Files) -> Generator[int, None, None]:
        """Process the files; yield after each event, and at least every TICK seconds, how many are done."""
        left = _Files(files)
        if not left:
            return  # a run without new files needs no cluster
        with self._cluster:
            try:
                yield from self._run(left)
            except BaseException as error:
                # What the nodes have sent is kept, whatever happens to them.
                self.recorder.commit_after(error)
                raise
        self._commit()
        self.recorder.failures = [failure for _, failure in sorted(self._failed, key=lambda one: one[0])]
        yield self.recorder.done

    def _run(self, left: _Files) -> Generator[int, None, None]:
        while True:
            if not self.stopping:
                self._give_work(left)
            if not self._chunks and (self.stopping or not (self._again or left)):
                return
            started = time.perf_counter()
            events = self._cluster.events(TICK)
            self.stage_times.seconds["the nodes"] += time.perf_counter() - started
            self.nodes = self._cluster.nodes
            for event in events:
                if isinstance(event, Answer):
                    self._record(self._chunks.pop(event.ticket), event.worker, event.value)
                elif isinstance(event, Lost):
                    self._give_again(event)
            self._commit(if_due=True)
            yield self.recorder.done

    def stop(self) -> None:
        """End early: what the nodes have begun is still recorded."""
        self.stopping = True

    def _give_work(self, files: _Files) -> None:
        """Give each worker that has room a chunk of files."""
        for worker in self._cluster.ready:
            while len(worker.tickets) < CALLS + WAITING_CALLS:
                chunk = self._again.popleft() if self._again else self._next_chunk(files, worker.info)
                if not chunk.files:
                    return
                with_sample = len(self.samples) < SAMPLES and self._measures(worker.info)
                self._chunks[self._cluster.call(worker, "embed", chunk.files, with_sample)] = chunk

    def _next_chunk(self, files: _Files, info: NodeInfo) -> _Chunk:
        share = files.left // (CHUNKS_A_WORKER * len(self._cluster.ready))
        part = files.take(max(LEAST_FILES, min(info.files_at_once, MOST_FILES, share)))
        known = self.recorder.known_content([file.path for _, file in part])
        return _Chunk([NodeFile(number, file, known.get(file.path, b"")) for number, file in part])

    def _give_again(self, lost: Lost) -> None:
        for ticket in lost.tickets:
            chunk = self._chunks.pop(ticket)
            chunk.attempts += 1
            if chunk.attempts >= ATTEMPTS:
                raise ClusterUnavailable(
                    f"{chunk.attempts} workers were lost with the same files, the first of which is "
                    f"{chunk.files[0].file.path}: {lost.reason}"
                )
            self._again.append(chunk)

    def _measures(self, info: NodeInfo) -> bool:
        """Return whether the precision of a worker is the one that is measured: that of the first worker."""
        return self.encoder is None or self.encoder.precision == info.precision

    # Recording.

    def _record(self, chunk: _Chunk, worker: Worker, batch: NodeBatch) -> None:
        if self.encoder is None:
            self.encoder = NodeEncoder(worker.info.precision, self._make_fp32)
        if batch.sample is not None and len(self.samples) < SAMPLES and self._measures(worker.info):
            self.samples.append(batch.sample)
        asked = {one.number: one for one in chunk.files}
        results = [replace(one, file=_as_found(asked[one.number].file, one.file)) for one in batch.results]
        read = [one for one in results if one.sha256]
        before = self.recorder.before([one.file.path for one in read])
        same_content = self.recorder.writer.catalogue.same_contents({one.sha256 for one in read})
        again: list[NodeFile] = []
        for result in results:
            one, sha256 = asked[result.number], result.sha256
            if result.failure is not None and result.failure.stage == "read":
                is_recorded = self._record_unread(one, result.failure, worker)
            elif not sha256:
                is_recorded = self._record_new(one, result, is_known=False)
            else:
                known = before.get(result.file.path)
                outcome = self.recorder.from_known_content(result.file, sha256, known, same_content.get(sha256, ()))
                if outcome is not None:
                    self.recorder.record_outcome(outcome)
                is_recorded = outcome is not None or self._record_new(one, result, is_known=known is not None)
            if not is_recorded:
                again.append(replace(one, known_sha256=b""))
        if again:
            self._again.append(_Chunk(again))

    def _record_new(self, asked: NodeFile, result: NodeResult, *, is_known: bool) -> bool:
        """Record a file whose content is new; return False if it has to be given to a node again."""
        if result.failure is not None:
            self._fail(asked, result.failure)
        elif result.image is None or result.vector is None:
            return False  # the catalogue has another content for it now
        else:
            failures = len(self.recorder.failures)
            image = replace(result.image, file=result.file)
            self.recorder.record([Prepared(image, NO_PIXELS, is_known)], result.vector[None])
            self._failed += [(asked.number, failure) for failure in self.recorder.failures[failures:]]
        return True

    def _record_unread(self, asked: NodeFile, failure: Failure, worker: Worker) -> bool:
        """Record the failure of a file that cannot be read here either; otherwise let a node try again, once."""
        try:
            read_content(asked.file.path)
        except SourceUnavailable:
            raise
        except UnreadableImage as error:
            self._fail(asked, replace(failure, reason=error.reason))
            return True
        if asked.number in self._unseen:
            raise SourceUnavailable(
                f"node {worker.node.address} cannot read {asked.file.path}, which this machine can: {failure.reason}",
                hint="let every node have the same files at the same path, or read them from an object store",
            )
        self._unseen.add(asked.number)
        return False

    def _fail(self, asked: NodeFile, failure: Failure) -> None:
        self.recorder.record_outcome(Failed(failure))
        self._failed.append((asked.number, failure))

    def _commit(self, *, if_due: bool = False) -> None:
        started = time.perf_counter()
        self.recorder.commit(if_due=if_due)
        self.stage_times.seconds["the disk"] += time.perf_counter() - started


class _Files:
    """The files that no node was given yet, with their numbers; false when there are none."""

    def __init__(self, files: Files) -> None:
        self.left = len(files)
        self._files = enumerate(files)

    def __bool__(self) -> bool:
        return self.left > 0

    def take(self, count: int) -> list[tuple[int, FoundFile]]:
        """Return the next files, at most `count`."""
        part = list(islice(self._files, count))
        self.left = self.left - len(part) if part else 0
        return part


def _as_found(listed: FoundFile, read: FoundFile) -> FoundFile:
    """Return a file that a node read, with the ctime and inode that this machine lists if it is the same file.

    The node may have these from a file system of its own, and the next scan compares them here.
    """
    if (listed.size, listed.mtime_ns, listed.version) != (read.size, read.mtime_ns, read.version):
        return read
    return replace(read, ctime_ns=listed.ctime_ns, inode=listed.inode)
