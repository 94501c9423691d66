"""The store of one index: its catalogue, segments and lock.

A reader sees one state of the index, even if a writer commits or compacts it meanwhile. A writer holds the lock. Any
thread may read: each has a connection of its own, and all share what was made of a state.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from imgindex.errors import IndexClosed, IndexDamaged, IndexExists, IndexNotFound, UsageError
from imgindex.storage import checksum, durable
from imgindex.storage.catalogue import Catalogue, check_format
from imgindex.storage.connection import LOGS
from imgindex.storage.lock import WriteLock
from imgindex.storage.paths import PathMap
from imgindex.storage.readers import Reader, Readers, State
from imgindex.storage.records import Location
from imgindex.storage.segments import Segments, Stored, crc_of_rows, make_folder
from imgindex.storage.writer import Writer
from imgindex.types import Ids, VectorBlock, Vectors

CATALOGUE = "catalogue.db"
UNFINISHED = f"{CATALOGUE}.new"
OWN_FILES = {"lock"} | {
    name + ending for name in (CATALOGUE, UNFINISHED) for ending in ("", *LOGS, ".crc32", ".crc32.new")
}
OWN_FOLDERS = {"segments", "search", "thumbnails"}
# How often a reader begins again because a compaction removed a segment that it was about to map.
TRIES = 5
# A selection of up to so many images is looked up image by image.
FEW = 2_000
CONDITION_SECONDS = 30.0
T = TypeVar("T")

# One state of the index: segment number → committed rows, mapped; they stay readable after the file was removed.
View = dict[int, Stored]


@dataclass(slots=True)
class Snapshot:
    """One state of the index that is being read.

    rows: segment number → committed rows; view: the segments, once they are needed. users: how many blocks and
    iterators read it.
    """

    reader: Reader
    state: State
    rows: dict[int, int]
    closing: contextlib.ExitStack
    view: View | None = None
    users: int = 1


class _Own:
    """The reader that a thread keeps for its next call; another thread gets it when this one has ended."""

    def __init__(self, readers: Readers, reader: Reader) -> None:
        self.readers, self.reader = readers, reader
        reader.is_owned = not reader.is_shared

    def __del__(self) -> None:
        self.reader.is_owned = False
        self.readers.give_back(self.reader)


class _Thread(threading.local):
    """What a thread has of a store: its reader, and the snapshot that it reads."""

    own: _Own | None = None
    snapshot: Snapshot | None = None


class Store:
    """An index on disk, open for reading in any thread; `writing` lends a Writer."""

    def __init__(self, path: str) -> None:
        """Open an index. Raises IndexNotFound, IndexDamaged or FormatTooNew."""
        self.path = os.path.abspath(path)
        self._opened_in = os.getpid()
        self._is_closed = False
        # How long a condition on images may take.
        self.condition_seconds = CONDITION_SECONDS
        # Rows whose CRC32 was checked since this store was opened: segment → a flag for each row.
        self._checked: dict[int, npt.NDArray[np.bool_]] = {}
        check_exists(self.path, path)
        self.paths = PathMap(self.path)
        self._readers = Readers(self.file(CATALOGUE), lambda: _open_catalogue(self.file(CATALOGUE), self.paths))
        self._thread = _Thread()
        self._lock = threading.Lock()
        try:
            self.settings = self.catalogue.settings()
            self.recipe_json = self.settings["recipe"]
            self.segments = Segments.from_settings(self.file("segments"), self.settings)
        except (KeyError, ValueError, TypeError) as error:
            self.close()
            raise IndexDamaged(f"{self.file(CATALOGUE)} lacks a setting of the index: {error!r}") from error
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, path: str, settings: dict[str, str]) -> Store:
        """Create an index and open it; `settings` needs recipe, recipe_digest, dimension and store (the dtype).

        Raises IndexExists where there is an index, or files that imgindex did not write; IndexDamaged where there are
        vectors without a catalogue.
        """
        path = os.path.abspath(path)
        if os.path.isdir(path) and (foreign := set(os.listdir(path)) - OWN_FILES - OWN_FOLDERS):
            raise IndexExists(
                f"{path} is not an index, and has other files in it ({min(foreign)!r})",
                hint="name a new folder with `path=`, for example photos.imgindex",
            )
        make_folder(os.path.join(path, "segments"))
        with WriteLock(os.path.join(path, "lock")):
            if exists(path):
                raise IndexExists(f"there is an index at {path} already")
            check_no_vectors(path)
            fill_catalogue(path, settings)
        durable.sync_folder(os.path.dirname(path))
        return cls(path)

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue, as this thread reads it. Raises IndexClosed, and UsageError after a fork."""
        self.check_open()
        if self._thread.snapshot is not None:
            return self._thread.snapshot.reader.catalogue
        return self._own_reader().catalogue

    def _own_reader(self) -> Reader:
        """Return the reader of this thread, which no snapshot holds in an older state."""
        own = self._thread.own
        if own is None or own.reader.snapshots:
            own = self._thread.own = _Own(self._readers, self._readers.lend())
        return own.reader

    def _renew_own_reader(self) -> Reader:
        """Return the reader of this thread, opened again if it would not see what is written from now on."""
        reader = self._own_reader()
        if not reader.catalogue.connection.sees_changes():
            self._readers.retire(reader)
            self._thread.own = None
            reader = self._own_reader()
        return reader

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def check_open(self) -> None:
        """Raise IndexClosed after `close`, and UsageError in another process than the one that opened the store."""
        if self._is_closed:
            raise IndexClosed(f"the index {self.path} is closed")
        # SQLite does not allow it.
        if os.getpid() != self._opened_in:
            raise UsageError("this index was opened before a fork", hint="open it again in the new process")

    def close(self) -> None:
        """Close all files. Other threads that are reading get IndexClosed."""
        self._is_closed = True
        self._readers.close(self._opened_in)

    @contextlib.contextmanager
    def reading(self) -> Iterator[View]:
        """Read one state of the index within the block, even if a writer commits or compacts it meanwhile.

        Raises IndexDamaged when a segment is missing, too short or of another index.
        """
        if self._thread.snapshot is not None:
            yield self._view(self._thread.snapshot)
            return
        self.check_open()
        snapshot = self._begin()
        self._thread.snapshot = snapshot
        try:
            yield self._view(snapshot)
        finally:
            self._thread.snapshot = None
            self._end(snapshot)

    def each(self, make: Callable[[], Iterator[T]], *, with_vectors: bool = True) -> Generator[T, None, None]:
        """Yield the items of the iterator that `make` returns, which reads one state of the index.

        Whichever threads ask for the items, and whatever they read in between, each item is of the state that the index
        had when the first was asked for. with_vectors: whether the segments are needed; raises as `reading` does.
        """
        self.check_open()
        return self._each(make, with_vectors)

    def _each(self, make: Callable[[], Iterator[T]], with_vectors: bool) -> Generator[T, None, None]:
        self.check_open()
        snapshot = self._thread.snapshot
        if snapshot is None:
            snapshot = self._begin(with_vectors=with_vectors)
        else:
            with self._lock:
                snapshot.users += 1
        try:
            with self._within(snapshot):
                items = make()
            while True:
                self.check_open()
                with self._within(snapshot):
                    try:
                        item = next(items)
                    except StopIteration:
                        return
                yield item
        finally:
            with contextlib.suppress(IndexClosed):
                self._end(snapshot)

    @contextlib.contextmanager
    def _within(self, snapshot: Snapshot) -> Iterator[None]:
        """Let this thread read a snapshot within the block."""
        before, self._thread.snapshot = self._thread.snapshot, snapshot
        try:
            yield
        finally:
            self._thread.snapshot = before

    def _begin(self, *, with_vectors: bool = True) -> Snapshot:
        """Begin a snapshot and map its segments; begin again where a compaction removed one in between."""
        reader = self._own_reader()
        if not reader.is_of(self.file(CATALOGUE)):  # repaired since
            reader = self._renew_own_reader()
        catalogue = reader.catalogue
        for tries_left in reversed(range(TRIES)):
            with contextlib.ExitStack() as stack:
                stack.enter_context(catalogue.snapshot())
                state, rows = self._readers.state(reader), catalogue.segments()
                found = Snapshot(reader, state, rows, contextlib.ExitStack())
                try:
                    if with_vectors:
                        self._view(found)
                except IndexDamaged:
                    stack.close()
                    if not tries_left or catalogue.segments() == rows:
                        raise
                    continue
                found.closing = stack.pop_all()
                with self._lock:
                    reader.snapshots += 1
                return found
        raise AssertionError("the last try returns or raises")

    def _view(self, snapshot: Snapshot) -> View:
        """Return the segments of a snapshot: checked once for each snapshot, and mapped once for each state."""
        if snapshot.view is None:
            for number, count in snapshot.rows.items():
                self.segments.check(number, count)
            snapshot.view = snapshot.state.once(Segments.maps, lambda: self.segments.maps(snapshot.rows))
        return snapshot.view

    def _end(self, snapshot: Snapshot) -> None:
        with self._lock:
            snapshot.users -= 1
            if snapshot.users:
                return
            snapshot.reader.snapshots -= 1
        try:
            snapshot.closing.close()
        finally:
            if not self._is_closed:
                self._readers.give_back(snapshot.reader)

    def vectors(self, ids: Sequence[int]) -> Vectors:
        """Return the vectors of present images, float32 (n, dimension), in the order of `ids`.

        Raises IndexDamaged when a vector does not have its CRC32, or an image is not in the index.
        """
        with self.reading() as view:
            locations = list(self.catalogue.locations(ids))
            if len(locations) != len(ids):
                raise IndexDamaged(f"{len(ids) - len(locations)} of {len(ids)} images are not in the index")
            return self.segments.read(locations, view)

    def read(self, location: Location) -> Vectors:
        """Return one vector (dimension,), of a missing image too. Raises IndexDamaged when its CRC32 differs."""
        with self.reading() as view:
            vector: Vectors = self.segments.read([location], view)[0]
            return vector

    def once(self, make: Callable[[Store], T], *, key: Hashable = None) -> T:
        """Return what a function makes of this store: it is called once for each state of the index.

        All threads share the result. It is kept until the next commit is read, or the store is closed. key: what
        stands for the function, if that is another object in each call.
        """
        with self.reading():
            snapshot = self._thread.snapshot
            assert snapshot is not None
            return snapshot.state.once(key or make, lambda: make(self))

    def location_table(self) -> npt.NDArray[np.int64]:
        """Return id, segment, row and CRC32 of the vectors of all present images, int64 (n, 4), in the order of ids.

        It is read once for each state of the index, and cannot be changed. Raises IndexDamaged.
        """
        return self.once(_location_table)

    def blocks(self, only: Ids | None = None) -> list[VectorBlock]:
        """Return the vectors of every segment, mapped and in the stored dtype, with the id of each row.

        The id is -1 where the row does not belong to a present image. The `check` of a block checks the CRC32 of each
        row once for each opened store.

        only: ids. The id of a row of another image is -1 as well. The rows of a few images are copied instead, segment
        by segment, so that a search for them passes over no others.

        Raises IndexDamaged.
        """
        if only is None:
            return self.once(_all_blocks)
        with self.reading() as view:
            if len(only) <= FEW:
                found = self.catalogue.locations(np.unique(only).tolist())
                rows = [(place.id, place.segment, place.row, place.crc32) for place in found]
                table = self.check_table(np.array(rows, dtype=np.int64).reshape(-1, 4), view)
                return list(self._copied(table, view))
            table = self.location_table()
            return self.blocks_of(table[np.isin(table[:, 0], only)], view)

    def blocks_beyond(self, covered: Mapping[int, int]) -> list[VectorBlock]:
        """Return what `blocks` does, but only for the vectors behind the first rows of each segment.

        covered: segment number → its first rows to leave out. Raises IndexDamaged.
        """
        with self.reading() as view:
            table = self.check_table(self.catalogue.location_table_beyond(covered), view)
            return list(self._copied(table, view)) if len(table) <= FEW else self.blocks_of(table, view)

    def check_table(self, table: npt.NDArray[np.int64], view: View) -> npt.NDArray[np.int64]:
        """Return a table of locations, which cannot be changed from now on. Raises IndexDamaged."""
        if (np.diff(table[:, 0], prepend=0) <= 0).any() or not np.isin(table[:, 1], list(view)).all():
            raise IndexDamaged(f"{self.catalogue.path} is damaged: its locations of vectors contradict each other")
        for number, stored in view.items():
            rows = table[table[:, 1] == number, 2]
            if len(rows) and (rows.min() < 0 or rows.max() >= len(stored)):
                raise IndexDamaged(f"an image lies outside the committed rows of {self.segments.path(number)}")
        table.flags.writeable = False
        return table

    def blocks_of(self, table: npt.NDArray[np.int64], view: View) -> list[VectorBlock]:
        blocks = []
        for number, stored in view.items():
            of_segment = table[table[:, 1] == number]
            rows = of_segment[:, 2]
            ids, crcs = np.full(len(stored), -1, dtype=np.int64), np.zeros(len(stored), dtype=np.int64)
            ids[rows], crcs[rows] = of_segment[:, 0], of_segment[:, 3]
            blocks.append(VectorBlock(ids, stored, partial(self._check, number, stored, ids, crcs)))
        return blocks

    def _copied(self, table: npt.NDArray[np.int64], view: View) -> Iterator[VectorBlock]:
        """Yield copies of the rows of a table, segment by segment, with the ids of their images."""
        for number, stored in view.items():
            of_segment = table[table[:, 1] == number]
            if len(of_segment):
                ids, rows, crcs = of_segment[:, 0], of_segment[:, 2], of_segment[:, 3]
                vectors = stored[rows]
                yield VectorBlock(ids, vectors, partial(self._check_copies, number, vectors, ids, crcs))

    def _check(
        self, number: int, stored: Stored, ids: Ids, crcs: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
    ) -> None:
        """Raise IndexDamaged unless rows of a segment have their CRC32s; some may be checked already, or twice here."""
        checked = self._checked.get(number, np.zeros(0, dtype=np.bool_))
        if len(checked) < len(stored):
            checked = np.concatenate([checked, np.zeros(len(stored) - len(checked), dtype=np.bool_)])
            self._checked[number] = checked
        unchecked = rows[~checked[rows]]
        if len(unchecked):
            unchecked = np.unique(unchecked)
            self._check_copies(number, stored, ids, crcs, unchecked)
            checked[unchecked] = True

    def _check_copies(
        self, number: int, vectors: Stored, ids: Ids, crcs: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
    ) -> None:
        wrong = rows[crc_of_rows(vectors, rows) != crcs[rows]]
        if len(wrong):
            more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            raise IndexDamaged(f"the vector of image {ids[wrong[0]]}{more} is damaged in {self.segments.path(number)}")

    @contextlib.contextmanager
    def writing(self, *, wait: Callable[[], bool] = lambda: False) -> Iterator[Writer]:
        """Lend a Writer, the only one at a time, after cleaning up what a crash may have left.

        wait: called between two tries; True to go on waiting for another writer. Raises IndexLocked, IndexDamaged or
        FormatTooNew.
        """
        path = self.catalogue.path
        with WriteLock(self.file("lock"), wait=wait):
            check_format(path)  # another imgindex may have migrated the catalogue since it was opened here
            checksum.check(path)
            if self._thread.snapshot is None:
                self._renew_own_reader()
            # The reader stays open, so that SQLite does not move the log into the database when the writer is closed.
            catalogue = Catalogue(path, self.paths, write=True)
            try:
                if checksum.read(path) is None:
                    check_integrity(catalogue)
                self.segments.recover(catalogue.segments())
                yield Writer(catalogue, self.segments)
                catalogue.checkpoint()
                checksum.write_when_closed(path)
            finally:
                catalogue.close()

    def bytes_on_disk(self) -> dict[str, int]:
        """Return the sizes in bytes of the catalogue, the segments and the derived files."""
        sizes = {"catalogue": 0, "segments": 0, "derived": 0}
        for name in OWN_FILES:
            with contextlib.suppress(OSError):
                sizes["catalogue"] += os.path.getsize(self.file(name))
        for name in OWN_FOLDERS:
            for folder, _, files in os.walk(self.file(name)):
                kind = "segments" if name == "segments" else "derived"
                for file in files:
                    with contextlib.suppress(OSError):  # a writer may be at work
                        sizes[kind] += os.path.getsize(os.path.join(folder, file))
        return sizes

    def file(self, name: str) -> str:
        return os.path.join(self.path, name)


def _location_table(store: Store) -> npt.NDArray[np.int64]:
    with store.reading() as view:
        return store.check_table(store.catalogue.location_table(), view)


def _all_blocks(store: Store) -> list[VectorBlock]:
    with store.reading() as view:
        return store.blocks_of(store.location_table(), view)


def exists(path: str) -> bool:
    """Whether a folder holds an index. Raises OSError where the folder cannot be read."""
    try:
        return stat.S_ISREG(os.stat(os.path.join(path, CATALOGUE)).st_mode)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise


def check_free(path: str) -> None:
    """Raise what is wrong with an index that is at a path already, if there is one and something is wrong."""
    if exists(path):
        Store(path).close()


def check_exists(path: str, named: str) -> None:
    """Raise IndexNotFound where the index does not exist, IndexDamaged where only its catalogue is missing."""
    if not exists(path):
        check_no_vectors(path)
        raise IndexNotFound(f"there is no index at {named}")


def check_no_vectors(path: str) -> None:
    """Raise IndexDamaged where there are vectors without a catalogue: it may be restored, and then needs them."""
    segments = os.path.join(path, "segments")
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if any(name.endswith(".vec") for name in os.listdir(segments)):
            raise IndexDamaged(
                f"{os.path.join(path, CATALOGUE)} is missing, and without it the vectors there cannot be used",
                hint=f"put it back from a copy, or remove {path} to start again",
            )


def check_integrity(catalogue: Catalogue) -> None:
    """Raise IndexDamaged when SQLite's own check finds a problem."""
    problems = catalogue.integrity()
    if problems:
        raise IndexDamaged(f"{catalogue.path} is damaged: {problems[0]}")


def fill_catalogue(path: str, settings: dict[str, str], fill: Callable[[Catalogue], None] = lambda new: None) -> None:
    """Create catalogue.db, first under another name: if the process dies, the old catalogue is still there."""
    database, unfinished = os.path.join(path, CATALOGUE), os.path.join(path, UNFINISHED)
    for ending in ("", *LOGS):
        with contextlib.suppress(FileNotFoundError):
            durable.disk.unlink(unfinished + ending)
    catalogue = Catalogue(unfinished, PathMap(path), write=True)
    try:
        with catalogue.atomic():
            for key, value in settings.items():
                catalogue.set_setting(key, value)
            fill(catalogue)
        # When it closes, SQLite would do the same, but not report a full disk. The log does not get the new name.
        durable.disk.execute(unfinished, catalogue.connection, "pragma wal_checkpoint(truncate)")
    finally:
        catalogue.close()
    # SQLite would read the log of the old catalogue as that of the new one. The checksum of the old catalogue stays for
    # now: it may be the only evidence that the catalogue is damaged.
    for ending in LOGS:
        with contextlib.suppress(FileNotFoundError):
            durable.remove(database + ending)
    durable.replace(unfinished, database)
    checksum.write(database)


def _open_catalogue(path: str, paths: PathMap) -> Catalogue:
    """Open a catalogue and check its checksum. Raises FormatTooNew before it checks for damage."""
    try:
        catalogue = Catalogue(path, paths)
    except (IndexDamaged, sqlite3.Error):
        checksum.check(path)  # if this raises, its message is more specific
        raise
    try:
        checksum.check(path)
    except BaseException:
        catalogue.close()
        raise
    return catalogue
