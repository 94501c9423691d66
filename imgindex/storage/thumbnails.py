"""Keeps thumbnails in the index, by the SHA-256 of the files that they show, in one SQLite file.

Thumbnails are derived: they can be deleted at any time, and a damaged one is made again. So nothing here raises, and
nothing waits for the disk. A file of its own for each thumbnail would take as many inodes as there are images.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
import threading
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from imgindex.storage.connection import address_of

log = logging.getLogger(__name__)

FOLDER = "thumbnails"
# The longer side of the thumbnails that are kept, in pixels.
SIDE = 192
# The most bytes of the file, of about 5 kB a thumbnail. Above that the oldest are dropped, a tenth at once.
MOST_BYTES = 4 << 30
DROPPED = 0.1
# How long a thumbnail may wait for another process, in seconds.
PATIENCE = 1.0
SCHEMA = """
create table if not exists thumbnails (
    number integer primary key, sha256 blob not null unique, width integer not null, height integer not null,
    crc32 integer not null, data blob not null
)"""
FOUND = "select data, width, height, crc32 from thumbnails where sha256 = ?"
PUT = "insert or ignore into thumbnails (sha256, width, height, crc32, data) values (?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class StoredThumbnail:
    """A thumbnail as the bytes of a WebP file; width and height in pixels. sha256: of the bytes of the image's file."""

    sha256: bytes
    data: bytes
    width: int
    height: int


class ThumbnailStore:
    """The thumbnails of the index in a folder; any thread may use it.

    Where the index cannot be written to, the thumbnails that it has are found, and others are not kept.
    """

    def __init__(self, index: str, *, most_bytes: int = MOST_BYTES) -> None:
        self.path = os.path.join(index, FOLDER, f"{SIDE}.db")
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._writes = False
        self._is_closed = False

    def get(self, sha256: bytes) -> StoredThumbnail | None:
        """Return the thumbnail of a file with that SHA-256; None where it is not kept, or is damaged."""
        with self._lock:
            try:
                connection = self._connect(write=False)
                row = None if connection is None else connection.execute(FOUND, (sha256,)).fetchone()
                if row is None:
                    return None
                data, width, height, crc32 = row
                if isinstance(data, bytes) and zlib.crc32(data) == crc32 and _is_size(width) and _is_size(height):
                    return StoredThumbnail(sha256, data, width, height)
                self._forget(sha256)
            except (OSError, sqlite3.Error) as error:
                self._give_up(error)
        return None

    def put(self, thumbnails: Iterable[StoredThumbnail]) -> None:
        """Keep thumbnails, if the disk and other processes allow it."""
        rows = [(one.sha256, one.width, one.height, zlib.crc32(one.data), one.data) for one in thumbnails]
        with self._lock:
            try:
                connection = self._connect(write=True) if rows else None
                if connection is not None:
                    with connection:
                        connection.executemany(PUT, rows)
                        self._bound(connection)
            except (OSError, sqlite3.Error) as error:
                self._give_up(error)

    def forget_unused(self, catalogue: str) -> None:
        """Drop the thumbnails of files that no image has, by the catalogue at that path, and free their space."""
        with self._lock:
            try:
                connection = self._connect(write=True) if os.path.exists(self.path) else None
                if connection is None:
                    return
                connection.execute("attach ? as catalogue", (address_of(catalogue, "ro"),))
                try:
                    with connection:
                        connection.execute(
                            "delete from thumbnails where sha256 not in (select sha256 from catalogue.images)"
                        )
                finally:
                    connection.execute("detach catalogue")
                connection.execute("vacuum")
            except (OSError, sqlite3.Error) as error:
                self._give_up(error)

    def close(self) -> None:
        """Close the file; nothing is found or kept from then on."""
        with self._lock:
            self._is_closed = True
            self._disconnect()

    def _connect(self, *, write: bool) -> sqlite3.Connection | None:
        """Return a connection, a writing one where the disk allows it; None where there is nothing to read."""
        if self._is_closed:
            return None
        if self._connection is not None and (self._writes or not write):
            return self._connection
        self._disconnect()
        if not write and not os.path.lexists(self.path):
            return None
        folder = os.path.dirname(self.path)
        # A link could lead to a database of another program.
        for path, is_right in ((folder, stat.S_ISDIR), (self.path, stat.S_ISREG)):
            if os.path.lexists(path) and not is_right(os.lstat(path).st_mode):
                raise OSError(f"{path} is not a folder or file of imgindex")
        self._writes = os.access(self.path if os.path.exists(self.path) else os.path.dirname(folder), os.W_OK)
        if write and not self._writes:
            return None
        if self._writes:
            os.makedirs(folder, exist_ok=True)
        mode = "rwc" if self._writes else "ro"
        self._connection = connection = sqlite3.connect(
            address_of(self.path, mode), uri=True, timeout=PATIENCE, check_same_thread=False
        )
        # The file may come from elsewhere.
        connection.execute("pragma trusted_schema = off")
        connection.execute("pragma cell_size_check = on")
        if self._writes:
            # After a crash of the system the file may be damaged, and is made again. Without a log beside it, it can
            # be read where nothing can be written.
            connection.execute("pragma synchronous = off")
            connection.execute(SCHEMA)
        return connection

    def _bound(self, connection: sqlite3.Connection) -> None:
        """Drop the oldest thumbnails where the file has too many bytes."""
        pages, free, size = (
            connection.execute(f"pragma {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        if (pages - free) * size > self._most_bytes:
            (count,) = connection.execute("select count(*) from thumbnails").fetchone()
            oldest = "select number from thumbnails order by number limit ?"
            number = max(1, int(count * DROPPED))
            connection.execute(f"delete from thumbnails where number in ({oldest})", (number,))

    def _forget(self, sha256: bytes) -> None:
        if self._writes and self._connection is not None:
            with self._connection:
                self._connection.execute("delete from thumbnails where sha256 = ?", (sha256,))

    def _give_up(self, error: Exception) -> None:
        """Disconnect after an error, and remove a file that is damaged, so that it is made again."""
        log.debug("thumbnails are not kept in %s: %s", self.path, error)
        is_damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        is_foreign = isinstance(error, sqlite3.OperationalError) and "no such" in str(error)
        self._disconnect()
        if (is_damaged or is_foreign) and self._writes:
            for ending in ("", "-journal", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    os.unlink(self.path + ending)

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None


def _is_size(number: object) -> bool:
    return isinstance(number, int) and 0 < number <= SIDE
