"""The pipeline of `add`: reads and decodes files ahead, embeds them in batches, and commits batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np

from imgindex.decoding.lookahead import map_ahead, worker_count
from imgindex.decoding.pool import DecoderPool
from imgindex.errors import DecoderUnavailable, SourceUnavailable, UnreadableImage
from imgindex.ingest.items import Failed, Files, Opened, Outcome, Prepared, Recorder, StageTimes, unreadable
from imgindex.sources.base import Content
from imgindex.sources.registry import read_ahead, read_content
from imgindex.storage.records import NewImage
from imgindex.types import Encoder, FoundFile, Vectors

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


class IngestPipeline:
    """Takes files from a work list to a recorder, on this machine; implements `Pipeline`."""

    def __init__(
        self, recorder: Recorder, decoders: DecoderPool, make_encoder: Callable[[], Encoder], workers: int | None
    ) -> None:
        self.recorder = recorder
        self.stage_times = StageTimes()
        # A few images of this run, and the encoder that embedded them.
        self.samples: list[Prepared] = []
        self.encoder: Encoder | None = None
        self.stopping = False
        self.nodes = 0
        # Called with how many images are decoded, until the first ones are committed.
        self.on_decoded: Callable[[int], None] = lambda count: None
        self._make_encoder = make_encoder
        self._loading: Future[Encoder] | None = None
        self._network_failed = False
        self._workers = worker_count(workers)
        self._decoders = decoders

    def run(self, files: Files) -> Generator[int, None, None]:
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
                    self.recorder.record(item, vector)
                self.samples += batch[: len(self.samples) < SAMPLES]
                self._commit()
                yield self.recorder.done
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
            return file, Failed(unreadable(file, content))
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
            return Failed(unreadable(file, error), content.sha256)
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
            item = content if isinstance(content, Failed) else self.recorder.sort(file, content)
            if item is not None:
                yield item

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
                self.recorder.record_outcome(outcome)
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

    def _commit(self) -> None:
        started = time.perf_counter()
        self.recorder.commit()
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


def _item_bytes(item: Opened | Outcome) -> int:
    return len(item.content.data) if isinstance(item, Opened) else 0
