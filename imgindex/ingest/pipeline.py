"""The pipeline of `add`: reads and decodes files ahead, embeds them in batches, and commits what is done.

Files go through it in lots. A decoder process reads the files of a lot, hashes and decodes them; this process only
decides what becomes of each, so that one can keep many decoders and a fast network busy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, repeat
from typing import TypeAlias, TypeVar

import numpy as np

from imgindex.decoding.lookahead import map_ahead, worker_count
from imgindex.decoding.pool import DecoderPool
from imgindex.decoding.process import DecodedImage, Done, Task
from imgindex.errors import DecoderUnavailable, SourceUnavailable, UnreadableImage
from imgindex.ingest.items import SAMPLES, Failed, Files, Opened, Outcome, Prepared, Recorder, StageTimes, unreadable
from imgindex.sources.base import Content
from imgindex.sources.registry import is_own_file, read_ahead, read_content
from imgindex.storage.records import NewImage
from imgindex.types import Encoder, FoundFile, Pixels, Vectors

# Images in flight between the disk and the network: at least so many, or as many as the network has in work; but not
# of more bytes, as pixels.
LOOK_AHEAD, LOOK_AHEAD_BYTES = 64, 256 << 20
# While the network is loaded, which takes seconds, more images are decoded ahead: so many, or of so many bytes.
LOADING_LOOK_AHEAD, LOADING_BYTES = 1024, 64 << 20
# The bytes of the files in one lot, unless one alone has more.
LOT_BYTES = 4 << 20
# Threads for batches in the network; the encoder's `streams` decides how many are in flight.
NETWORK_THREADS = 64
# Files that need no vector are counted and recorded in parts of so many.
CHANGES_AT_ONCE = 256
NO_VECTORS: Vectors = np.empty((0, 0), np.float32)

Item = TypeVar("Item")
# A file, and its content where it was read ahead.
_Found: TypeAlias = tuple[FoundFile, Content | UnreadableImage | None]


class IngestPipeline:
    """Takes files to a recorder, on this machine; implements `Pipeline`."""

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
        # Files in a lot.
        self._lot = 1
        # A first run decodes each file when it is read. A later one asks the catalogue first, which may know the bytes.
        self._is_first = recorder.is_first

    def run(self, files: Files) -> Generator[int, None, None]:
        """Process the files; yield after each batch how many are done. All are committed at the end."""
        yield from self._run(files, len(files))
        while not self.stopping and (again := self.recorder.take_again()):
            yield from self._run(again, len(again))

    def _run(self, files: Iterable[FoundFile], count: int) -> Generator[int, None, None]:
        decode_threads = ThreadPoolExecutor(self._workers, thread_name_prefix="imgindex-decode")
        network_threads = ThreadPoolExecutor(NETWORK_THREADS, thread_name_prefix="imgindex-network")
        if self._is_first and count and self._loading is None:
            # Its files are new, and most of them are images: the network is made while the first decoder starts.
            self._loading = network_threads.submit(self._make_encoder)
        depths = (self._decode_depth, self._few) if self._is_first else (self._few, self._decode_depth)
        try:
            opened = map_ahead(
                decode_threads, self._open, self._lots(files, count), depth=depths[0], size=_bytes_of_lot
            )
            decoded = map_ahead(
                decode_threads, self._decode, map(self.recorder.decide, opened), depth=depths[1], size=_bytes_of_opened
            )
            batches = self._batches(self._timed("decoding", decoded), network_threads)
            embedded = map_ahead(network_threads, self._embed, batches, depth=self._network_depth)
            for batch, vectors in self._timed("the network", embedded):
                if batch:
                    self.recorder.record(batch, vectors)
                if batch and len(self.samples) < SAMPLES:
                    # A copy: the pixels of a whole lot are one array.
                    self.samples.append(replace(batch[0], pixels=batch[0].pixels.copy()))
                self._commit(if_due=True)
                yield self.recorder.done
            self._commit()
            if self.stopping:
                self._decoders.close()
        except BaseException as error:
            # Otherwise threads would wait for images that are no longer needed.
            self._decoders.close()
            self.recorder.commit_after(error)
            raise
        finally:
            for threads in (decode_threads, network_threads):
                threads.shutdown(wait=True, cancel_futures=True)

    def stop(self) -> None:
        """End early: `run` still yields the batches that the network has begun, and opens no other files."""
        self.stopping = True

    def _lots(self, files: Iterable[FoundFile], count: int) -> Iterator[list[_Found]]:
        """Yield the files in lots, with the content of those that are read ahead: see `read_ahead`."""
        # Few files are shared out among all processes.
        self._lot = max(1, min(self._decoders.lot, count // (4 * self._workers)))
        # The first lot is one file, so that the network is loaded soon. It and the second one have as many as the
        # others have, so that batches end where lots end: see `_stacked`.
        sizes = chain([1, max(1, self._lot - 1)], repeat(self._lot))
        size = next(sizes)
        lot: list[_Found] = []
        lot_bytes = 0
        for file, content in read_ahead(files):
            if lot and (len(lot) >= size or lot_bytes + max(file.size, 0) > LOT_BYTES):
                yield lot
                lot, lot_bytes, size = [], 0, next(sizes)
            lot.append((file, content))
            lot_bytes += max(file.size, 0)
        if lot:
            yield lot

    # Called in decode_threads.

    def _open(self, lot: list[_Found]) -> list[Opened | Failed]:
        """Read the files of a lot; in a first run, decode them too."""
        opened: list[Opened | Failed | None] = []
        tasks: dict[int, Task] = {}
        for file, content in lot:
            if content is None and is_own_file(file.path):
                tasks[len(opened)] = Task(file.path, decode=self._is_first)
                opened.append(None)
                continue
            read = _read(file, content)
            if self._is_first and isinstance(read, Opened):
                tasks[len(opened)] = Task(data=read.content.data)
            opened.append(read)
        for number, outcome in zip(tasks, self._work(tasks.values()), strict=True):
            file, item = lot[number][0], opened[number]
            if isinstance(outcome, UnreadableImage):
                opened[number] = Failed(unreadable(file, outcome))
            elif isinstance(item, Opened):
                opened[number] = replace(item, picture=outcome.picture)
            elif outcome.content:
                opened[number] = _opened(file, outcome.content, outcome.picture)
        return [item for item in opened if item is not None]

    def _decode(self, lot: list[Opened | Outcome]) -> list[Outcome]:
        """Decode the files of a lot that are still to be decoded."""
        outcomes: list[Outcome | None] = []
        tasks: dict[int, Task] = {}
        for item in lot:
            if not isinstance(item, Opened):
                outcomes.append(item)
            elif item.picture:
                outcomes.append(_prepared(item, item.picture))
            else:
                data, sha256 = item.content.data, item.content.sha256
                tasks[len(outcomes)] = Task(data=data) if data else Task(item.file.path, sha256=sha256)
                outcomes.append(None)
        for number, outcome in zip(tasks, self._work(tasks.values()), strict=True):
            item = lot[number]
            assert isinstance(item, Opened)
            if isinstance(outcome, UnreadableImage):
                outcomes[number] = Failed(unreadable(item.file, outcome), item.content.sha256)
            elif outcome.picture:
                outcomes[number] = _prepared(item, outcome.picture)
        return [outcome for outcome in outcomes if outcome is not None]

    def _work(self, tasks: Iterable[Task]) -> list[Done | UnreadableImage]:
        tasks = list(tasks)
        return self._decoders.work(tasks) if tasks else []

    # Called in the caller's thread.

    def _batches(self, lots: Iterator[list[Outcome]], network_threads: Executor) -> Iterator[list[Prepared]]:
        """Yield the prepared images in batches; record the other outcomes, and yield an empty batch after some."""
        prepared: list[Prepared] = []
        recorded = 0
        while not self._is_ending():
            lot = self._next(lots)
            if lot is None or self._is_ending():
                break
            for outcome in lot:
                if isinstance(outcome, Prepared):
                    prepared.append(outcome)
                else:
                    self.recorder.record_outcome(outcome)
                    recorded += 1
            if prepared and self._loading is None:
                # Not before the first image that needs it: a later run may find no new images.
                self._loading = network_threads.submit(self._make_encoder)
            if prepared and self.encoder is None:
                self.on_decoded(len(prepared))
            if prepared and self._loading and (self._loading.done() or len(prepared) >= self._loading_depth()):
                yield from self._full_batches(prepared, self._loading.result())
            if recorded >= CHANGES_AT_ONCE:
                recorded = 0
                yield []
        if prepared and self._loading and not self._is_ending():
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
        """Yield what is left: for a CPU in equal parts, one for each stream, because the others would wait otherwise.

        A GPU computes a few images in the time of a whole batch, so there more streams would only be opened for them.
        """
        encoder = self.encoder
        parts = encoder.streams if encoder is not None and encoder.device == "cpu" else 1
        size = max(1, -(-len(prepared) // parts))
        for start in range(0, max(1, len(prepared)), size):
            yield prepared[start : start + size]

    def _is_ending(self) -> bool:
        return self.stopping or self._network_failed

    def _next(self, lots: Iterator[list[Outcome]]) -> list[Outcome] | None:
        try:
            return next(lots, None)
        except DecoderUnavailable:
            if self._network_failed:  # that closed the decoders, and its own error is raised
                return None
            raise

    def _few(self) -> int:
        """How many lots are in flight where little is done with them."""
        return 1 if self._is_first else self._workers + 1

    def _decode_depth(self) -> int:
        """How many lots are in flight between the disk and the network."""
        if self._loading is None:
            return 1  # so that the first image starts the loading
        images = self._look_ahead() if self._loading.done() else self._loading_depth()
        return max(self._workers + 1, images // self._lot)

    def _look_ahead(self) -> int:
        in_network = 0 if self.encoder is None else self.encoder.streams * self.encoder.batch_size
        return min(max(LOOK_AHEAD, in_network), LOOK_AHEAD_BYTES // self._decoders.picture_bytes)

    def _loading_depth(self) -> int:
        return max(LOOK_AHEAD, min(LOADING_LOOK_AHEAD, LOADING_BYTES // self._decoders.picture_bytes))

    def _network_depth(self) -> int:
        # One batch more than are computed at once, so that the next one is ready.
        return 1 if self.encoder is None else self.encoder.streams + 1

    # Called in network_threads.

    def _embed(self, batch: list[Prepared]) -> tuple[list[Prepared], Vectors]:
        if not batch or self.encoder is None:
            return [], NO_VECTORS
        try:
            # A GPU copies fastest from memory of its own choice.
            empty: Callable[[int], Pixels] | None = getattr(self.encoder, "empty_batch", None)
            return batch, self.encoder.encode(_stacked([item.pixels for item in batch], empty))
        except BaseException:
            # The caller's thread may be waiting for a decoder.
            self._network_failed = True
            self._decoders.close()
            raise

    def _commit(self, *, if_due: bool = False) -> None:
        started = time.perf_counter()
        self.recorder.commit(if_due=if_due)
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


def _read(file: FoundFile, content: Content | UnreadableImage | None) -> Opened | Failed:
    """Return a file that was read ahead, or read it here."""
    try:
        content = read_content(file.path) if content is None else content
    except SourceUnavailable:
        raise
    except UnreadableImage as error:
        content = error
    return Failed(unreadable(file, content)) if isinstance(content, UnreadableImage) else _opened(file, content)


def _opened(file: FoundFile, content: Content, picture: DecodedImage | None = None) -> Opened:
    """Return a file with the numbers that it had when it was read."""
    found = content.file_at(file.path)
    # The inode of some file systems does not last.
    return Opened(found if file.inode is not None else replace(found, inode=None), content, picture=picture)


def _stacked(pictures: Sequence[Pixels], empty: Callable[[int], Pixels] | None = None) -> Pixels:
    """Return pictures as one array (n, side, side, 3), without a copy where they are consecutive ones of a lot.

    empty: makes memory for so many pictures, to which they are copied.

    The pictures of a lot are in its order, and no two of them the same: so the first and the last one show whether
    others lie between them.
    """
    if empty is not None:
        return np.stack(pictures, out=empty(len(pictures)))
    lot, first, last = pictures[0].base, pictures[0], pictures[-1]
    if isinstance(lot, np.ndarray) and lot.flags.c_contiguous and all(one.base is lot for one in pictures):
        start, end = (_address(one) - _address(lot) for one in (first, last))
        are_alike = first.flags.c_contiguous and first.strides == last.strides
        if are_alike and end - start == (len(pictures) - 1) * first.nbytes:
            consecutive: Pixels = lot.reshape(-1)[start : end + first.nbytes].reshape(len(pictures), *first.shape)
            return consecutive
    return np.stack(pictures)


def _address(pixels: Pixels) -> int:
    address: int = pixels.__array_interface__["data"][0]
    return address


def _prepared(item: Opened, picture: DecodedImage) -> Prepared:
    image = NewImage(
        item.file,
        item.content.sha256,
        picture.width,
        picture.height,
        picture.format,
        hashes=picture.hashes or None,
        blank=picture.blank if picture.hashes else None,
    )
    return Prepared(image, picture.pixels, item.known)


def _bytes_of_lot(lot: list[_Found]) -> int:
    contents = (content for _, content in lot)
    return sum(len(content.data) for content in contents if isinstance(content, Content))


def _bytes_of_opened(lot: list[Opened | Outcome]) -> int:
    return sum(len(item.content.data) for item in lot if isinstance(item, Opened))
