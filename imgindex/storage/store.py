"""The store of one index: catalogue, segments and lock joined.

Whoever reads sees one state of the index, whatever is committed or compacted meanwhile; whoever writes has the lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from imgindex.errors import IndexDamaged, IndexExists, IndexNotFound, UsageError
from imgindex.storage import checksum, durable
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.connection import LOGS
from imgindex.storage.lock import WriteLock
from imgindex.storage.paths import PathMap
from imgindex.storage.records import Location
from imgindex.storage.segments import Segments, Stored, crc_of_rows, make_folder
from imgindex.storage.writer import Writer
from imgindex.types import Rows, Vectors

CATALOGUE = "catalogue.db"
UNFINISHED = f"{CATALOGUE}.new"
OURS = {"lock"} | {name + ending for name in (CATALOGUE, UNFINISHED) for ending in ("", *LOGS, ".crc32", ".crc32.new")}
FOLDERS = {"segments", "search", "thumbnails"}
# Compactions that may happen between two steps of a reader before it gives up.
TRIES = 5


Ids = npt.NDArray[np.int64]
# One state of the index: the committed rows of each segment, mapped, so that they outlive the segment's name.
View = dict[int, Stored]


class Store:
    """An index on disk, open for reading; `writing()` lends a Writer, one at a time."""

    def __init__(self, path: str) -> None:
        """Open an index. Raises IndexNotFound, IndexDamaged or FormatTooNew."""
        self.path = os.path.abspath(path)
        self._home = (os.getpid(), threading.get_ident())
        self._view: View | None = None
        # Rows whose CRC32 was found right since this store was opened: segment → one truth value a row.
        self._sound: dict[int, npt.NDArray[np.bool_]] = {}
        check_exists(self.path, path)
        self.paths = PathMap(self.path)
        self._catalogue = _open_catalogue(self.file(CATALOGUE), self.paths)
        try:
            self.settings = self._catalogue.settings()
            self.recipe_json = self.settings["recipe"]
            self.segments = Segments.from_settings(self.file("segments"), self.settings)
        except (KeyError, ValueError, TypeError) as error:
            self.close()
            raise IndexDamaged(f"{self.file(CATALOGUE)} lacks what an index must say of itself: {error!r}") from error
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, path: str, settings: dict[str, str]) -> Store:
        """Make an index and open it; `settings` needs recipe, recipe_digest, dimension and store (the dtype).

        Raises IndexExists where there is an index, or other people's files, IndexDamaged where vectors lie alone.
        """
        path = os.path.abspath(path)
        if os.path.isdir(path) and (strangers := set(os.listdir(path)) - OURS - FOLDERS):
            raise IndexExists(
                f"{path} is no index and holds other files ({min(strangers)!r})",
                hint="name a folder of its own with --index, say photos.imgindex",
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
        """The reader's catalogue. Raises UsageError elsewhere than where it was opened: SQLite does not allow it."""
        if os.getpid() != self._home[0]:
            raise UsageError("this index was opened before a fork", hint="open it again in the new process")
        if threading.get_ident() != self._home[1]:
            raise UsageError("this index was opened in another thread", hint="open it once in each thread")
        return self._catalogue

    def close(self) -> None:
        (self.catalogue if os.getpid() == self._home[0] else self._catalogue).close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[View]:
        """See one and the same state of the index within the block, whatever is committed or compacted meanwhile.

        Raises IndexDamaged when a segment is missing, too short or of another index.
        """
        if self._view is not None:
            yield self._view
            return
        with contextlib.ExitStack() as stack:
            self._view = self._look(stack)
            stack.callback(setattr, self, "_view", None)
            yield self._view

    def _look(self, stack: contextlib.ExitStack) -> View:
        """Begin a snapshot and map its segments; again where a compaction took one away in between."""
        for again in reversed(range(TRIES)):
            snapshot = self.catalogue.snapshot()
            snapshot.__enter__()
            try:
                rows = self.catalogue.segments()
                view = self.segments.maps(rows)
                stack.push(snapshot)
                return view
            except BaseException as error:
                snapshot.__exit__(None, None, None)
                if not isinstance(error, IndexDamaged) or not again or self.catalogue.segments() == rows:
                    raise
        raise AssertionError("the last try returns or raises")

    def vectors(self, ids: Sequence[int]) -> Vectors:
        """Return the vectors (n, dimension) of images that are shown, in the order of ids and in float32.

        Raises IndexDamaged when one does not have its CRC32, or is no longer there.
        """
        with self.reading() as view:
            places = list(self.catalogue.locations(ids))
            if len(places) != len(ids):
                raise IndexDamaged(f"{len(ids) - len(places)} of the images asked for are not in the index")
            return self.segments.read(places, view)

    def read(self, place: Location) -> Vectors:
        """Return one vector (dimension,), of a hidden image too. Raises IndexDamaged when its CRC32 differs."""
        with self.reading() as view:
            vector: Vectors = self.segments.read([place], view)[0]
            return vector

    def blocks(self, only: Ids | None = None) -> list[Rows]:
        """Return every segment's vectors, mapped and in the stored dtype, with the id of each row.

        The id is -1 where the row belongs to no image that is shown, or to none of `only`. Rows are checked when
        somebody asks for it, once for each row and opened store. Raises IndexDamaged.
        """
        with self.reading() as view:
            table = self.catalogue.places()
            if (np.diff(table[:, 0], prepend=0) <= 0).any() or not np.isin(table[:, 1], list(view)).all():
                raise IndexDamaged(f"{self.catalogue.path} does not say clearly where vectors lie")
            if only is not None:
                table = table[np.isin(table[:, 0], only)]
            return [self._block(number, stored, table[table[:, 1] == number]) for number, stored in view.items()]

    def _block(self, number: int, stored: Stored, table: npt.NDArray[np.int64]) -> Rows:
        rows = table[:, 2]
        if len(rows) and (rows.min() < 0 or rows.max() >= len(stored)):
            raise IndexDamaged(f"an image lies outside the committed rows of {self.segments.path(number)}")
        ids, crcs = np.full(len(stored), -1, dtype=np.int64), np.zeros(len(stored), dtype=np.int64)
        ids[rows], crcs[rows] = table[:, 0], table[:, 3]
        sound = self._sound.get(number, np.zeros(0, dtype=np.bool_))
        sound = np.concatenate([sound, np.zeros(len(stored) - len(sound), dtype=np.bool_)])
        self._sound[number] = sound

        def check(rows: npt.NDArray[np.int64]) -> None:
            doubtful = rows[~sound[rows]]
            wrong = doubtful[crc_of_rows(stored, doubtful) != crcs[doubtful]]
            if len(wrong):
                more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
                raise IndexDamaged(
                    f"the vector of image {ids[wrong[0]]}{more} is damaged in {self.segments.path(number)}"
                )
            sound[doubtful] = True

        return Rows(ids, stored, check)

    @contextlib.contextmanager
    def writing(self, *, wait: Callable[[], bool] = lambda: False) -> Iterator[Writer]:
        """Lend the one Writer, with what a crash may have left behind cleared away.

        wait: asked between tries whether to go on waiting. Raises IndexLocked or IndexDamaged.
        """
        path = self.catalogue.path
        with WriteLock(self.file("lock"), wait=wait):
            checksum.check(path)
            self._look_anew()
            # The store's own reader stays open, so SQLite never moves the log into the database as it closes.
            catalogue = Catalogue(path, self.paths, write=True)
            try:
                if checksum.stored(path) is None:
                    check_integrity(catalogue)
                self.segments.recover(catalogue.segments())
                yield Writer(catalogue, self.segments)
                catalogue.checkpoint()
                checksum.settle(path)
            finally:
                catalogue.close()

    def _look_anew(self) -> None:
        """Open the reader again where it would not see what is written: its file was replaced, or was read-only."""
        if self._view is None and not self._catalogue.connection.sees_changes():
            self._catalogue.close()
            self._catalogue = _open_catalogue(self._catalogue.path, self.paths)

    def bytes_on_disk(self) -> dict[str, int]:
        """Return the sizes in bytes of the catalogue, the segments and what is derived from them."""
        sizes = {"catalogue": 0, "segments": 0, "derived": 0}
        for name in OURS:
            with contextlib.suppress(OSError):
                sizes["catalogue"] += os.path.getsize(self.file(name))
        for name in FOLDERS:
            for folder, _, files in os.walk(self.file(name)):
                kind = "segments" if name == "segments" else "derived"
                for file in files:
                    with contextlib.suppress(OSError):  # a writer may be at work
                        sizes[kind] += os.path.getsize(os.path.join(folder, file))
        return sizes

    def file(self, name: str) -> str:
        return os.path.join(self.path, name)


def exists(path: str) -> bool:
    """Whether a folder holds an index. Raises OSError where nobody may look."""
    try:
        return stat.S_ISREG(os.stat(os.path.join(path, CATALOGUE)).st_mode)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise


def check_exists(path: str, named: str) -> None:
    """Raise IndexNotFound where there is no index, IndexDamaged where only its catalogue is missing."""
    if not exists(path):
        check_no_vectors(path)
        raise IndexNotFound(f"there is no index at {named}")


def check_no_vectors(path: str) -> None:
    """Raise IndexDamaged where vectors lie without a catalogue: it may come back, and they must be there then."""
    segments = os.path.join(path, "segments")
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if any(name.endswith(".vec") for name in os.listdir(segments)):
            raise IndexDamaged(
                f"{os.path.join(path, CATALOGUE)} is missing, and nothing else knows whose vectors lie there",
                hint=f"put it back from a copy, or remove {path} to begin anew",
            )


def check_integrity(catalogue: Catalogue) -> None:
    """Raise IndexDamaged when SQLite's own check finds something wrong."""
    wrong = catalogue.integrity()
    if wrong:
        raise IndexDamaged(f"{catalogue.path} is damaged: {wrong[0]}")


def fill_catalogue(path: str, settings: dict[str, str], fill: Callable[[Catalogue], None] = lambda new: None) -> None:
    """Make catalogue.db, under another name first: who dies here leaves what was there before."""
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
        # SQLite would do it as it closes, and not tell when the disk is full: the log does not get the new name.
        durable.disk.execute(unfinished, catalogue.connection, "pragma wal_checkpoint(truncate)")
    finally:
        catalogue.close()
    # The old one's log would be taken for the new one's. Its checksum stays: that alone may know that it is damaged.
    for ending in LOGS:
        with contextlib.suppress(FileNotFoundError):
            durable.remove(database + ending)
    durable.replace(unfinished, database)
    checksum.write(database)


def _open_catalogue(path: str, paths: PathMap) -> Catalogue:
    """Open a catalogue whose bytes have their checksum; one from a newer version is called that, not damaged."""
    try:
        catalogue = Catalogue(path, paths)
    except (IndexDamaged, sqlite3.Error):
        checksum.check(path)  # whose word, if it has one, tells more
        raise
    try:
        checksum.check(path)
    except BaseException:
        catalogue.close()
        raise
    return catalogue
