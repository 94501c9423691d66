"""The pipeline of `add`: reads and decodes files ahead, embeds them in batches, and commits what is done.

Files go through it in lots. A decoder process reads the files of a lot, hashes and decodes them; this process only
decides what becomes of each, so that one can keep many decoders and a fast network busy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TypeAlias, TypeVar

import numpy as np

from imgindex.decoding.lookahead import map_ahead, worker_count
from imgindex.decoding.pool import DecoderPool
from imgindex.decoding.process import DecodedImage, Done, Task
from imgindex.encoders.encode_files import NOT_FINITE
from imgindex.errors import DecoderUnavailable, IndexDamaged, SourceUnavailable, UnreadableImage
from imgindex.ingest.items import Copied, Failed, Opened, Outcome, Prepared, Relocated
from imgindex.ingest.worklist import WorkList
from imgindex.sources.base import Content
from imgindex.sources.registry import is_gone, is_own_file, read_ahead, read_content
from imgindex.storage.records import KnownImage, NewImage, SameContent, stored_stat
from imgindex.storage.writer import Writer
from imgindex.types import Encoder, Failure, FoundFile, Vectors

# Images in flight between the disk and the network: at least so many, or as many as the network has in work; but not
# of more bytes, as pixels.
LOOK_AHEAD, LOOK_AHEAD_BYTES = 64, 256 << 20
# While the network is loaded, which takes seconds, more images are decoded ahead: so many, or of so many bytes.
LOADING_LOOK_AHEAD, LOADING_BYTES = 1024, 64 << 20
# The bytes of the files in one lot, unless one alone has more.
LOT_BYTES = 4 << 20
# Threads for batches in the network; the encoder's `streams` decides how many are in flight.
NETWORK_THREADS = 64
# Images whose pixels are kept until the end of a run, one of each batch.
SAMPLES = 8
# What is recorded is committed after so many seconds, or when it is so many changes, or vectors of so many bytes.
COMMIT_SECONDS, COMMIT_CHANGES, COMMIT_BYTES = 0.5, 16_384, 32 << 20
# Files that need no vector are counted and recorded in parts of so many.
CHANGES_AT_ONCE = 256


Item = TypeVar("Item")
# A file, and its content where it was read ahead.
_Found: TypeAlias = tuple[FoundFile, Content | UnreadableImage | None]


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
        # By SHA-256, contents whose vector is recorded but not committed, so that the catalogue does not have it yet.
        self._recorded: dict[bytes, tuple[NewImage, Vectors]] = {}
        # Files that have to go through the pipeline again.
        self._again: list[FoundFile] = []
        # Ids of missing images that were found at another path in this run.
        self._renamed_ids: set[int] = set()
        # A first run decodes each file when it is read. A later one asks the catalogue first, which may know the bytes.
        self._is_first = not writer.catalogue.has_images()
        self._last_commit = time.monotonic()
        self._commit_failed = False

    def run(self, files: WorkList) -> Generator[int, None, None]:
        """Process the files; yield after each batch how many are done. All are committed at the end."""
        yield from self._run(files, len(files))
        while self._again and not self.stopping:
            again, self._again = self._again, []
            yield from self._run(again, len(again))

    def _run(self, files: Iterable[FoundFile], count: int) -> Generator[int, None, None]:
        decode_threads = ThreadPoolExecutor(self._workers, thread_name_prefix="imgindex-decode")
        network_threads = ThreadPoolExecutor(NETWORK_THREADS, thread_name_prefix="imgindex-network")
        depths = (self._decode_depth, self._few) if self._is_first else (self._few, self._decode_depth)
        try:
            opened = map_ahead(
                decode_threads, self._open, self._lots(files, count), depth=depths[0], size=_bytes_of_lot
            )
            decoded = map_ahead(
                decode_threads, self._decode, map(self._decide, opened), depth=depths[1], size=_bytes_of_opened
            )
            batches = self._batches(chain.from_iterable(self._timed("decoding", decoded)), network_threads)
            embedded = map_ahead(network_threads, self._embed, batches, depth=self._network_depth)
            for batch, vectors in self._timed("the network", embedded):
                for item, vector in zip(batch, vectors, strict=True):
                    self._record(item, vector)
                if batch and len(self.samples) < SAMPLES:
                    # A copy: the pixels of a whole lot are one array.
                    self.samples.append(replace(batch[0], pixels=batch[0].pixels.copy()))
                self._commit(if_due=True)
                yield sum(self.counts.values()) + len(self.failures)
            self._commit()
            if self.stopping:
                self._decoders.close()
        except BaseException as error:
            # Otherwise threads would wait for images that are no longer needed.
            self._decoders.close()
            if not isinstance(error, GeneratorExit) and not self._commit_failed:
                self._commit()
            raise
        finally:
            for threads in (decode_threads, network_threads):
                threads.shutdown(wait=True, cancel_futures=True)

    def stop(self) -> None:
        """End early: `run` still yields the batches that the network has begun, and opens no other files."""
        self.stopping = True

    def _lots(self, files: Iterable[FoundFile], count: int) -> Iterator[list[_Found]]:
        """Yield the files in lots, with the content of those that are read ahead: see `read_ahead`."""
        # The first lot is one file, so that the network is loaded soon. Few files are shared out among all processes.
        size, most = 1, max(1, min(self._decoders.lot, count // (4 * self._workers)))
        lot: list[_Found] = []
        lot_bytes = 0
        for file, content in read_ahead(files):
            if lot and (len(lot) >= size or lot_bytes + max(file.size, 0) > LOT_BYTES):
                yield lot
                lot, lot_bytes, size = [], 0, most
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
            read = _read(file) if content is None else _opened(file, content)
            if self._is_first and isinstance(read, Opened):
                tasks[len(opened)] = Task(data=read.content.data)
            opened.append(read)
        for number, outcome in zip(tasks, self._work(tasks.values()), strict=True):
            file, item = lot[number][0], opened[number]
            if isinstance(outcome, UnreadableImage):
                opened[number] = Failed(_failure(file, outcome))
            elif isinstance(item, Opened):
                opened[number] = replace(item, picture=outcome.picture)
            elif outcome.content:
                read = _opened(file, outcome.content)
                opened[number] = replace(read, picture=outcome.picture) if isinstance(read, Opened) else read
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
                outcomes[number] = Failed(_failure(item.file, outcome), item.content.sha256)
            elif outcome.picture:
                outcomes[number] = _prepared(item, outcome.picture)
        return [outcome for outcome in outcomes if outcome is not None]

    def _work(self, tasks: Iterable[Task]) -> list[Done | UnreadableImage]:
        tasks = list(tasks)
        return self._decoders.work(tasks) if tasks else []

    # Called in the caller's thread.

    def _decide(self, lot: list[Opened | Failed]) -> list[Opened | Outcome]:
        """Return files with a new content as Opened, to be decoded, and the others as an Outcome or not at all."""
        opened = [item for item in lot if isinstance(item, Opened)]
        before = {} if self._is_first else self.writer.catalogue.known([item.file.path for item in opened])
        same_content = self.writer.catalogue.same_contents({item.content.sha256 for item in opened})
        decided: list[Opened | Outcome] = []
        for read in lot:
            if isinstance(read, Failed):
                decided.append(read)
                continue
            sha256, known = read.content.sha256, before.get(read.file.path)
            item = replace(read, known=True) if known else read
            outcome = self._from_known_content(item, known, same_content.get(sha256, ()))
            if outcome is not None:
                decided.append(outcome)
            elif sha256 in self._waiting:
                self._waiting[sha256].append(item.without_data())
            else:
                self._waiting[sha256] = []
                decided.append(item)
        return decided

    def _from_known_content(
        self, item: Opened, before: KnownImage | None, same_content: Sequence[SameContent]
    ) -> Relocated | Copied | None:
        """Return the outcome of a file whose content the index has a vector for; `before`: the image at its path."""
        sha256 = item.content.sha256
        if before is not None and before.sha256 == sha256 and before.id not in self._reembed_ids:
            kind = "unchanged" if before.present else "restored"
            return Relocated(before.id, item.file, kind, is_recorded=before.stat == stored_stat(item.file))
        if before is None:
            for image in same_content:
                if image.location.id not in self._renamed_ids and is_gone(image.path):
                    self._renamed_ids.add(image.location.id)
                    return Relocated(image.location.id, item.file, "renamed")
        if sha256 in self._recorded:
            recorded, vector = self._recorded[sha256]
            return Copied(replace(recorded, file=item.file), vector, item.known)
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
                if recorded % CHANGES_AT_ONCE == 0:
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

    def _few(self) -> int:
        """How many lots are in flight where little is done with them."""
        return 1 if self._is_first else self._workers + 1

    def _decode_depth(self) -> int:
        """How many lots are in flight between the disk and the network."""
        if self._loading is None:
            return 1  # so that the first image starts the loading
        images = self._look_ahead() if self._loading.done() else self._loading_depth()
        return max(self._workers + 1, images // self._decoders.lot)

    def _look_ahead(self) -> int:
        in_network = 0 if self.encoder is None else self.encoder.streams * self.encoder.batch_size
        return min(max(LOOK_AHEAD, in_network), LOOK_AHEAD_BYTES // self._decoders.picture_bytes)

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
                others = self._waiting.pop(sha256, ())
                if failure.stage == "read":
                    # This file changed after it was read for the first time; the others still have the content.
                    self._again += [other.file for other in others]
                    return
                for other in others:
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
        self._recorded[item.image.sha256] = item.image, vector
        self.writer.put(item.image, vector)
        self.counts["updated" if item.known else "added"] += 1
        self.blank += bool(item.image.blank) * (1 + len(others))
        for other in others:
            self.writer.put(replace(item.image, file=other.file), vector)
            self.counts["updated" if other.known else "reused"] += 1

    def _fail(self, failure: Failure) -> None:
        self.writer.fail(failure)
        self.failures.append(failure)

    def _commit(self, *, if_due: bool = False) -> None:
        """Commit what is recorded; `if_due`: only if it is time to, or if it is much."""
        if if_due and not self._is_due():
            return
        started = time.perf_counter()
        self._commit_failed = True
        self.writer.commit()
        self._commit_failed = False
        self._recorded.clear()
        self._last_commit = time.monotonic()
        self.stage_times.seconds["the disk"] += time.perf_counter() - started

    def _is_due(self) -> bool:
        changes = len(self.writer)
        vector_bytes = changes * self.writer.segments.dimension * self.writer.segments.dtype.itemsize
        waited = time.monotonic() - self._last_commit
        return waited >= COMMIT_SECONDS or changes >= COMMIT_CHANGES or vector_bytes >= COMMIT_BYTES

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


def _read(file: FoundFile) -> Opened | Failed:
    try:
        return _opened(file, read_content(file.path))
    except SourceUnavailable:
        raise
    except UnreadableImage as error:
        return _opened(file, error)


def _opened(file: FoundFile, content: Content | UnreadableImage) -> Opened | Failed:
    """Return a file with the numbers that it had when it was read."""
    if isinstance(content, UnreadableImage):
        return Failed(_failure(file, content))
    found = content.file_at(file.path)
    # The inode of some file systems does not last.
    return Opened(found if file.inode is not None else replace(found, inode=None), content)


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


def _bytes_of_lot(lot: list[_Found]) -> int:
    contents = (content for _, content in lot)
    return sum(len(content.data) for content in contents if isinstance(content, Content))


def _bytes_of_opened(lot: list[Opened | Outcome]) -> int:
    return sum(len(item.content.data) for item in lot if isinstance(item, Opened))
