"""Opens what is new: reads and has it decoded ahead, embeds in batches, commits batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from imgindex.adding.outcomes import Copied, Failed, Moved, Opened, Outcome, Prepared
from imgindex.adding.survey import is_gone
from imgindex.embedding.pipeline import ahead, worker_count
from imgindex.embedding.sandbox import Decoders
from imgindex.errors import DecoderUnavailable, IndexDamaged, UnreadableImage
from imgindex.images.fingerprint import Content, read_content
from imgindex.storage.records import Known, NewImage
from imgindex.storage.worklist import WorkList
from imgindex.storage.writer import Writer
from imgindex.types import Embedder, Failure, FoundFile, Vectors

# Pictures under way between the disk and the network: enough for the next batch to be ready when it is wanted.
LOOK_AHEAD = 64
# While the network is being made, which takes seconds, decoding goes on for so many, if their bytes are no more.
EARLY, EARLY_BYTES = 1024, 64 << 20
# Threads for batches on their way through the network; how many are under way, the embedder says.
NETWORK_THREADS = 64
# Pictures that are kept until the end of a run, one of each batch.
SAMPLES = 8
# Changes that need no vector are committed in lots of this many.
SETTLED = 256


Item = TypeVar("Item")


@dataclass(slots=True)
class Waits:
    """Seconds that the run spent waiting for each part."""

    seconds: dict[str, float] = field(default_factory=lambda: {"decoding": 0.0, "the network": 0.0, "the disk": 0.0})

    @property
    def longest(self) -> str:
        return max(self.seconds, key=self.seconds.__getitem__)


class Work:
    """Takes files from a work list to the store; `counts` says what became of them."""

    def __init__(
        self,
        writer: Writer,
        decoders: Decoders,
        make_embedder: Callable[[], Embedder],
        workers: int | None,
        *,
        distrusted: frozenset[int] = frozenset(),
    ) -> None:
        self.writer = writer
        self.counts = dict.fromkeys(("added", "updated", "renamed", "unchanged", "reused", "restored"), 0)
        self.failures: list[Failure] = []
        self.waits = Waits()
        # Pictures of this run, few and far between, and what embedded them.
        self.samples: list[Prepared] = []
        self.embedder: Embedder | None = None
        self._making: Future[Embedder] | None = None
        # Images whose stored vector is lost: they are embedded again though their content is known.
        self._distrusted = distrusted
        self._make_embedder = make_embedder
        self._workers = worker_count(workers)
        self._decoders = decoders
        # Contents on their way to the network, each with the files of the same bytes that wait for its vector.
        self._twins: dict[bytes, list[Opened]] = {}
        self._claimed: set[int] = set()
        self.finishing = self._network_failed = False

    def run(self, files: WorkList) -> Generator[int, None, None]:
        """Work through the files; yield after each commit how many are done."""
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="imgindex-decode")
        network = ThreadPoolExecutor(NETWORK_THREADS, thread_name_prefix="imgindex-network")
        try:
            opened = ahead(pool, self._open, files, depth=2 * self._workers, size=lambda file: file.size)
            outcomes = self._timed(
                "decoding", ahead(pool, self._decode, self._sort(opened), depth=self._look_ahead, size=_size)
            )
            batches = self._batches(outcomes, network)
            for batch, vectors in self._timed("the network", ahead(network, self._embed, batches, depth=self._depth)):
                for item, vector in zip(batch, vectors, strict=True):
                    self._record(item, vector)
                self.samples += batch[: len(self.samples) < SAMPLES]
                self._commit()
                yield self._done()
            if self.finishing:
                self._decoders.close()
        except BaseException:
            # So that no thread waits for a picture that nobody wants any more.
            self._decoders.close()
            raise
        finally:
            for threads in (pool, network):
                threads.shutdown(wait=True, cancel_futures=True)

    def finish(self) -> None:
        """End early: `run` yields once more for each batch that the network has begun, and opens nothing new."""
        self.finishing = True

    def _done(self) -> int:
        return sum(self.counts.values()) + len(self.failures)

    # in the pool's threads

    def _open(self, file: FoundFile) -> tuple[FoundFile, Content | Failed]:
        try:
            content = read_content(file.path)
        except UnreadableImage as error:
            return file, Failed(_failure(file, error))
        return replace(file, size=content.size, mtime_ns=content.mtime_ns), content

    def _decode(self, item: Opened | Outcome) -> Outcome:
        if not isinstance(item, Opened):
            return item
        file, content = item.file, item.content
        try:
            picture = self._decoders.decode(content.data)
        except UnreadableImage as error:
            return Failed(_failure(file, error), content.sha256)
        image = NewImage(file, content.sha256, picture.width, picture.height, picture.format)
        return Prepared(image, picture.pixels, item.known)

    # in the caller's thread

    def _sort(self, opened: Iterator[tuple[FoundFile, Content | Failed]]) -> Iterator[Opened | Outcome]:
        """Pass on to decoding what has a new content; settle what the index has a vector for."""
        for file, content in opened:
            if isinstance(content, Failed):
                yield content
                continue
            before = self.writer.catalogue.known([file.path]).get(file.path)
            job = Opened(file, content, before is not None)
            settled = self._recognise(job, before)
            if settled is not None:
                yield settled
            elif content.sha256 in self._twins:
                self._twins[content.sha256].append(job.without_data())
            else:
                self._twins[content.sha256] = []
                yield job

    def _recognise(self, job: Opened, before: Known | None) -> Moved | Copied | None:
        sha256 = job.content.sha256
        if before is not None and before.sha256 == sha256 and before.id not in self._distrusted:
            return Moved(before.id, job.file, "unchanged" if before.present else "restored")
        twins = self.writer.catalogue.twins(sha256)
        if before is None:
            for twin in twins:
                if twin.place.id not in self._claimed and is_gone(twin.path):
                    self._claimed.add(twin.place.id)
                    return Moved(twin.place.id, job.file, "renamed")
        for twin in twins:
            try:
                vector = self.writer.read(twin.place)
            except IndexDamaged:
                continue  # `verify` tells of it; here the picture itself is at hand
            image = NewImage(job.file, sha256, twin.width, twin.height, twin.format)
            return Copied(image, vector, job.known)
        return None

    def _settle(self, outcome: Moved | Copied | Failed) -> None:
        match outcome:
            case Moved(id, file, kind):
                self.writer.move(id, file)
                self.counts[kind] += 1
            case Copied(image, vector, known):
                self.writer.put(image, vector)
                self.counts["updated" if known else "reused"] += 1
            case Failed(failure, sha256):
                self._fail(failure)
                for twin in self._twins.pop(sha256, ()):
                    self._fail(replace(failure, path=twin.file.path, mtime_ns=twin.file.mtime_ns))

    def _record(self, item: Prepared, vector: Vectors) -> None:
        """Record a picture's vector for its file, and for those of the same bytes that came meanwhile."""
        twins = self._twins.pop(item.image.sha256, [])
        with np.errstate(over="ignore"):
            stored = vector.astype(self.writer.segments.dtype)  # too large a number for float16 becomes infinite
        if not np.isfinite(stored).all():
            reason = "the network gave no finite vector"
            for file in (item.image.file, *(twin.file for twin in twins)):
                self._fail(Failure(file.path, "embed", reason, file.size, file.mtime_ns))
            return
        self.writer.put(item.image, vector)
        self.counts["updated" if item.known else "added"] += 1
        for twin in twins:
            self.writer.put(replace(item.image, file=twin.file), vector)
            self.counts["updated" if twin.known else "reused"] += 1

    def _fail(self, failure: Failure) -> None:
        self.writer.fail(failure)
        self.failures.append(failure)

    def _batches(self, outcomes: Iterator[Outcome], network: Executor) -> Iterator[list[Prepared]]:
        """Settle outcomes; yield the pictures among them batch by batch, and an empty one after other commits."""
        pictures: list[Prepared] = []
        while not self._over():
            outcome = self._next(outcomes)
            if outcome is None or self._over():
                break
            if isinstance(outcome, Prepared):
                pictures.append(outcome)
                if self._making is None:
                    # Not before the first picture that needs it: a run without new pictures never imports torch.
                    self._making = network.submit(self._make_embedder)
                if self._making.done() or len(pictures) >= self._early():
                    yield from self._cut(pictures, self._making.result())
            else:
                self._settle(outcome)
                if len(self.writer) >= SETTLED:
                    self._commit()
                    yield []
        if not self._over() and self._making is not None:
            yield from self._cut(pictures, self._making.result())
        if not self._over():
            yield pictures

    def _cut(self, pictures: list[Prepared], embedder: Embedder) -> Iterator[list[Prepared]]:
        """Take whole batches away from the pictures."""
        self.embedder = embedder
        while len(pictures) >= embedder.batch_size and not self._over():
            batch = pictures[: embedder.batch_size]
            del pictures[: len(batch)]
            yield batch

    def _over(self) -> bool:
        return self.finishing or self._network_failed

    def _next(self, outcomes: Iterator[Outcome]) -> Outcome | None:
        try:
            return next(outcomes, None)
        except DecoderUnavailable:
            if self._network_failed:  # which closed the decoders, and is the error to tell
                return None
            raise

    def _look_ahead(self) -> int:
        if self._making is None:
            return 1  # so that it is begun with the first picture
        return LOOK_AHEAD if self._making.done() else self._early()

    def _early(self) -> int:
        return max(LOOK_AHEAD, min(EARLY, EARLY_BYTES // self._decoders.picture_bytes))

    def _depth(self) -> int:
        # One more than are computed at once, so that the network finds the next batch when it wants it.
        return 1 if self.embedder is None else self.embedder.lanes + 1

    def _embed(self, batch: list[Prepared]) -> tuple[list[Prepared], Sequence[Vectors]]:
        if not batch or self.embedder is None:
            return [], []
        try:
            return batch, list(self.embedder.embed(np.stack([item.pixels for item in batch])))
        except BaseException:
            # The caller's thread may be waiting for a picture that nobody wants any more.
            self._network_failed = True
            self._decoders.close()
            raise

    def _commit(self) -> None:
        started = time.perf_counter()
        self.writer.commit()
        self.waits.seconds["the disk"] += time.perf_counter() - started

    def _timed(self, part: str, items: Iterator[Item]) -> Iterator[Item]:
        """Pass items on; the seconds that they were waited for are that part's, unless another part counts them."""
        while True:
            started, others = time.perf_counter(), sum(self.waits.seconds.values())
            item = next(items, None)
            waited = time.perf_counter() - started - (sum(self.waits.seconds.values()) - others)
            self.waits.seconds[part] += waited
            if item is None:
                return
            yield item


def _failure(file: FoundFile, error: UnreadableImage) -> Failure:
    return Failure(file.path, error.stage, error.reason, file.size, file.mtime_ns)


def _size(item: Opened | Outcome) -> int:
    return len(item.content.data) if isinstance(item, Opened) else 0
