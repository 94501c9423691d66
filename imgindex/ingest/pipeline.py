"""The pipeline of `add`: reads and decodes files ahead, embeds them in batches, and commits batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from imgindex.decoding.lookahead import map_ahead, worker_count
from imgindex.decoding.pool import DecoderPool
from imgindex.encoders.encode_files import NOT_FINITE
from imgindex.errors import DecoderUnavailable, IndexDamaged, SourceUnavailable, UnreadableImage
from imgindex.ingest.items import Copied, Failed, Opened, Outcome, Prepared, Relocated
from imgindex.ingest.worklist import WorkList
from imgindex.sources.base import Content
from imgindex.sources.registry import is_gone, read_ahead, read_content
from imgindex.storage.records import KnownImage, NewImage, stored_stat
from imgindex.storage.writer import Writer
from imgindex.types import Encoder, Failure, FoundFile, Vectors

# Images in flight between the disk and the network: enough for the next batch to be ready when the network is free.
LOOK_AHEAD = 64
# While the network is loaded, which takes seconds, more images are decoded ahead: so many, or of so many bytes.
LOADING_LOOK_AHEAD, LOADING_BYTES = 1024, 64 << 20
# Threads for batches in the network; the encoder's `streams` decides how many are in flight.
NETWORK_THREADS = 64
# Images whose pixels are kept until the end of a run, one of each batch.
SAMPLES = 8
# Changes that need no vector are committed when there are so many.
CHANGES_PER_COMMIT = 256


Item = TypeVar("Item")


@dataclass(slots=True)
class StageTimes:
    """Seconds that the run waited for each stage."""

    seconds: dict[str, float] = field(default_factory=lambda: {"decoding": 0.0, "the network": 0.0, "the disk": 0.0})

    @property
    def longest(self) -> str:
        return max(self.seconds, key=self.seconds.__getitem__)


class IngestPipeline:
    """Takes files from a work list into the store; `counts` and `failures` are the results.

    reembed_ids: images whose stored vector is lost. They are embedded again although their content is known.
    """

    def __init__(
        self,
        writer: Writer,
        decoders: DecoderPool,
        make_encoder: Callable[[], Encoder],
        workers: int | None,
        *,
        reembed_ids: frozenset[int] = frozenset(),
    ) -> None:
        self.writer = writer
        self.counts = dict.fromkeys(("added", "updated", "renamed", "unchanged", "reused", "restored"), 0)
        self.failures: list[Failure] = []
        # Images of one colour, or nearly so, among those that were added or updated.
        self.blank = 0
        self.stage_times = StageTimes()
        # A few images of this run, and the encoder that embedded them.
        self.samples: list[Prepared] = []
        self.encoder: Encoder | None = None
        self.stopping = False
        # Called with how many images are decoded, until the first ones are committed.
        self.on_decoded: Callable[[int], None] = lambda count: None
        self._make_encoder = make_encoder
        self._loading: Future[Encoder] | None = None
        self._network_failed = False
        self._workers = worker_count(workers)
        self._decoders = decoders
        self._reembed_ids = reembed_ids
        # By SHA-256, contents on their way to the network, each with the other files that wait for the same vector.
        self._waiting: dict[bytes, list[Opened]] = {}
        # Ids of missing images that were found at another path in this run.
        self._renamed_ids: set[int] = set()

    def run(self, files: WorkList) -> Generator[int, None, None]:
        """Process the files; yield after each commit how many are done."""
        decode_threads = ThreadPoolExecutor(self._workers, thread_name_prefix="imgindex-decode")
        network_threads = ThreadPoolExecutor(NETWORK_THREADS, thread_name_prefix="imgindex-network")
        try:
            opened = map_ahead(
                decode_threads,
                self._read,
                read_ahead(files),
                depth=2 * self._workers,
                size=lambda item: item[0].size,
            )
            outcomes = map_ahead(
                decode_threads, self._decode, self._skip_known(opened), depth=self._decode_depth, size=_item_bytes
            )
            batches = self._batches(self._timed("decoding", outcomes), network_threads)
            embedded = map_ahead(network_threads, self._embed, batches, depth=self._network_depth)
            for batch, vectors in self._timed("the network", embedded):
                for item, vector in zip(batch, vectors, strict=True):
                    self._record(item, vector)
                self.samples += batch[: len(self.samples) < SAMPLES]
                self._commit()
                yield sum(self.counts.values()) + len(self.failures)
            if self.stopping:
                self._decoders.close()
        except BaseException:
            # Otherwise threads would wait for images that are no longer needed.
            self._decoders.close()
            raise
        finally:
            for threads in (decode_threads, network_threads):
                threads.shutdown(wait=True, cancel_futures=True)

    def stop(self) -> None:
        """End early: `run` still yields the batches that the network has begun, and opens no other files."""
        self.stopping = True

    # Called in decode_threads.

    def _read(self, item: tuple[FoundFile, Content | UnreadableImage | None]) -> tuple[FoundFile, Content | Failed]:
        file, content = item
        try:
            content = read_content(file.path) if content is None else content
        except SourceUnavailable:
            raise
        except UnreadableImage as error:
            content = error
        if isinstance(content, UnreadableImage):
            return file, Failed(_failure(file, content))
        found = content.file_at(file.path)
        # The inode of some file systems does not last.
        return found if file.inode is not None else replace(found, inode=None), content

    def _decode(self, item: Opened | Outcome) -> Outcome:
        if not isinstance(item, Opened):
            return item
        file, content = item.file, item.content
        try:
            decoded = self._decoders.decode(content.data)
        except UnreadableImage as error:
            return Failed(_failure(file, error), content.sha256)
        image = NewImage(
            file,
            content.sha256,
            decoded.width,
            decoded.height,
            decoded.format,
            hashes=decoded.hashes or None,
            blank=decoded.blank if decoded.hashes else None,
        )
        return Prepared(image, decoded.pixels, item.known)

    # Called in the caller's thread.

    def _skip_known(self, files: Iterator[tuple[FoundFile, Content | Failed]]) -> Iterator[Opened | Outcome]:
        """Yield files with a new content as Opened, to be decoded, and the others as an Outcome."""
        for file, content in files:
            if isinstance(content, Failed):
                yield content
                continue
            before = self.writer.catalogue.known([file.path]).get(file.path)
            item = Opened(file, content, before is not None)
            outcome = self._from_known_content(item, before)
            if outcome is not None:
                yield outcome
            elif content.sha256 in self._waiting:
                self._waiting[content.sha256].append(item.without_data())
            else:
                self._waiting[content.sha256] = []
                yield item

    def _from_known_content(self, item: Opened, before: KnownImage | None) -> Relocated | Copied | None:
        """Return the outcome of a file whose content the index has a vector for; `before`: the image at its path."""
        sha256 = item.content.sha256
        if before is not None and before.sha256 == sha256 and before.id not in self._reembed_ids:
            kind = "unchanged" if before.present else "restored"
            return Relocated(before.id, item.file, kind, is_recorded=before.stat == stored_stat(item.file))
        same_content = self.writer.catalogue.same_content(sha256)
        if before is None:
            for image in same_content:
                if image.location.id not in self._renamed_ids and is_gone(image.path):
                    self._renamed_ids.add(image.location.id)
                    return Relocated(image.location.id, item.file, "renamed")
        for image in same_content:
            try:
                vector = self.writer.read(image.location)
            except IndexDamaged:
                continue  # `verify` reports it; here the image can be embedded again
            copy = NewImage(
                item.file, sha256, image.width, image.height, image.format, hashes=image.hashes, blank=image.blank
            )
            return Copied(copy, vector, item.known)
        return None

    def _batches(self, outcomes: Iterator[Outcome], network_threads: Executor) -> Iterator[list[Prepared]]:
        """Yield the prepared images in batches; record the other outcomes, and yield an empty batch after a commit."""
        prepared: list[Prepared] = []
        recorded = 0
        while not self._is_ending():
            outcome = self._next(outcomes)
            if outcome is None or self._is_ending():
                break
            if isinstance(outcome, Prepared):
                prepared.append(outcome)
                if self.encoder is None:
                    self.on_decoded(len(prepared))
                if self._loading is None:
                    # Not before the first image that needs it: a run without new images makes no network.
                    self._loading = network_threads.submit(self._make_encoder)
                if self._loading.done() or len(prepared) >= self._loading_depth():
                    yield from self._full_batches(prepared, self._loading.result())
            else:
                self._record_outcome(outcome)
                recorded += 1
                if recorded % CHANGES_PER_COMMIT == 0:
                    self._commit()
                    yield []
        if not self._is_ending() and self._loading is not None:
            yield from self._full_batches(prepared, self._loading.result())
        if not self._is_ending():
            yield from self._last_batches(prepared)

    def _full_batches(self, prepared: list[Prepared], encoder: Encoder) -> Iterator[list[Prepared]]:
        """Yield full batches, and remove them from `prepared`."""
        self.encoder = encoder
        while len(prepared) >= encoder.batch_size and not self._is_ending():
            batch = prepared[: encoder.batch_size]
            del prepared[: len(batch)]
            yield batch

    def _last_batches(self, prepared: list[Prepared]) -> Iterator[list[Prepared]]:
        """Yield what is left in equal parts, one for each stream: the others would wait otherwise."""
        parts = 1 if self.encoder is None else self.encoder.streams
        size = max(1, -(-len(prepared) // parts))
        for start in range(0, max(1, len(prepared)), size):
            yield prepared[start : start + size]

    def _is_ending(self) -> bool:
        return self.stopping or self._network_failed

    def _next(self, outcomes: Iterator[Outcome]) -> Outcome | None:
        try:
            return next(outcomes, None)
        except DecoderUnavailable:
            if self._network_failed:  # that closed the decoders, and its own error is raised
                return None
            raise

    def _decode_depth(self) -> int:
        if self._loading is None:
            return 1  # so that the first image starts the loading
        return LOOK_AHEAD if self._loading.done() else self._loading_depth()

    def _loading_depth(self) -> int:
        return max(LOOK_AHEAD, min(LOADING_LOOK_AHEAD, LOADING_BYTES // self._decoders.picture_bytes))

    def _network_depth(self) -> int:
        # One batch more than are computed at once, so that the next one is ready.
        return 1 if self.encoder is None else self.encoder.streams + 1

    # Called in network_threads.

    def _embed(self, batch: list[Prepared]) -> tuple[list[Prepared], Sequence[Vectors]]:
        if not batch or self.encoder is None:
            return [], []
        try:
            return batch, list(self.encoder.encode(np.stack([item.pixels for item in batch])))
        except BaseException:
            # The caller's thread may be waiting for a decoder.
            self._network_failed = True
            self._decoders.close()
            raise

    # Recording, in the caller's thread.

    def _record_outcome(self, outcome: Relocated | Copied | Failed) -> None:
        match outcome:
            case Relocated(id, file, kind, is_recorded):
                if kind != "unchanged" or not is_recorded:
                    self.writer.move(id, file)
                self.counts[kind] += 1
            case Copied(image, vector, known):
                self.writer.put(image, vector)
                self.blank += bool(image.blank)
                self.counts["updated" if known else "reused"] += 1
            case Failed(failure, sha256):
                self._fail(failure)
                for other in self._waiting.pop(sha256, ()):
                    self._fail(_failure_of(other.file, failure.stage, failure.reason))

    def _record(self, item: Prepared, vector: Vectors) -> None:
        """Record an image's vector for its file, and for the files with the same content that waited for it."""
        others = self._waiting.pop(item.image.sha256, [])
        with np.errstate(over="ignore"):
            stored = vector.astype(self.writer.segments.dtype)  # numbers beyond the range of float16 become infinite
        if not np.isfinite(stored).all():
            for file in (item.image.file, *(other.file for other in others)):
                self._fail(_failure_of(file, "embed", NOT_FINITE))
            return
        self.writer.put(item.image, vector)
        self.counts["updated" if item.known else "added"] += 1
        self.blank += bool(item.image.blank) * (1 + len(others))
        for other in others:
            self.writer.put(replace(item.image, file=other.file), vector)
            self.counts["updated" if other.known else "reused"] += 1

    def _fail(self, failure: Failure) -> None:
        self.writer.fail(failure)
        self.failures.append(failure)

    def _commit(self) -> None:
        started = time.perf_counter()
        self.writer.commit()
        self.stage_times.seconds["the disk"] += time.perf_counter() - started

    def _timed(self, stage: str, items: Iterator[Item]) -> Iterator[Item]:
        """Yield the items; add the seconds of waiting for them to the stage, less those that other stages count."""
        seconds = self.stage_times.seconds
        while True:
            started, counted = time.perf_counter(), sum(seconds.values())
            item = next(items, None)
            seconds[stage] += time.perf_counter() - started - (sum(seconds.values()) - counted)
            if item is None:
                return
            yield item


def _failure(file: FoundFile, error: UnreadableImage) -> Failure:
    return replace(_failure_of(file, error.stage, error.reason), decoder=error.decoder)


def _failure_of(file: FoundFile, stage: str, reason: str) -> Failure:
    return Failure(
        file.path,
        stage,
        reason,
        file.size,
        file.mtime_ns,
        ctime_ns=file.ctime_ns,
        inode=file.inode,
        version=file.version,
    )


def _item_bytes(item: Opened | Outcome) -> int:
    return len(item.content.data) if isinstance(item, Opened) else 0
