"""The catalogue: SQLite holds what is known of images, and is the only commit point."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from imgindex.errors import FormatTooNew, IndexDamaged
from imgindex.storage import checksum, durable, schema
from imgindex.storage.connection import PATH, connect, impatient
from imgindex.storage.journal import Journal, timestamp
from imgindex.storage.paths import PathMap
from imgindex.storage.records import Known, Location, NewImage, Twin
from imgindex.types import FoundFile, Image

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

log = logging.getLogger(__name__)

LOG_LIMIT = 64 << 20
LOCATION = (int, int, int, int)
CHUNK = 500  # names in one query: below every SQLite's limit on variables
FETCHED = 2000  # rows at a time


class Catalogue:
    """One connection to catalogue.db; a reader's can never write."""

    def __init__(self, path: str, paths: PathMap, *, write: bool = False) -> None:
        self.path, self.paths = path, paths
        self.connection = connect(path, write=write)
        self.journal = Journal(self.connection, paths)
        try:
            self._check_version(write)
        except BaseException:
            self.connection.close()
            raise

    @property
    def version(self) -> int:
        """The format as it is now: a writer may have brought it up to date since this was opened."""
        version: int = self.connection.execute("pragma user_version").fetchone()[0]
        return version

    def _check_version(self, write: bool) -> None:
        version = self.version
        if version > schema.NEWEST:
            raise FormatTooNew(f"{self.path} has format {version}; this imgindex knows up to {schema.NEWEST}")
        if version < 1 and not write:
            raise IndexDamaged(f"{self.path} is no finished catalogue (format {version})")
        schema.check_schema(self.connection, version)
        if version < schema.NEWEST and write:
            # sqlite-utils imports pandas when it is installed, half a second: only for a new or an old catalogue.
            from imgindex.storage.migrations import migrate

            with self.atomic():
                migrate(self.connection)

    def close(self) -> None:
        self.connection.close()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read one and the same state of the catalogue within the block, whatever is committed meanwhile."""
        if self.connection.in_transaction:
            yield
            return
        self.connection.execute("begin")
        try:
            yield
        finally:
            if self.connection.in_transaction:
                self.connection.execute("rollback")

    @contextlib.contextmanager
    def atomic(self) -> Iterator[None]:
        """Commit all that the block writes, or nothing of it."""
        checksum.announce(self.path)
        self.connection.execute("begin immediate")
        try:
            yield
            durable.disk.execute(self.path, self.connection, "commit")
        except BaseException as error:
            if self.connection.in_transaction:
                self.connection.execute("rollback")
            if isinstance(error, (OSError, sqlite3.Error)):
                self._bury()
            raise

    def _bury(self) -> None:
        """Write over a commit that failed, if that can be done.

        Where only its sync failed, the log holds it whole: after a crash SQLite would take it for done, when its rows
        have long been given to others.
        """
        # IndexDamaged: where it was the making of the tables that failed.
        with contextlib.suppress(OSError, sqlite3.Error, IndexDamaged):
            self.connection.execute("begin immediate")
            try:
                self.set_setting("last_failed_commit", timestamp())
                durable.disk.execute(self.path, self.connection, "commit")
            finally:
                if self.connection.in_transaction:
                    self.connection.execute("rollback")

    # settings

    def settings(self) -> dict[str, str]:
        return dict(self.connection.rows((str, str), "select key, value from settings"))

    def set_setting(self, key: str, value: str) -> None:
        self.connection.execute("insert or replace into settings values (?, ?)", (key, value))

    # images

    def known(self, paths: Sequence[str]) -> dict[str, Known]:
        """Return what is known of these absolute paths, those that are not shown included."""
        found = {}
        for start in range(0, len(paths), CHUNK):
            chunk = {self.paths.stored(path): path for path in paths[start : start + CHUNK]}
            marks = ",".join("?" * len(chunk))
            query = f"select path, id, size, mtime_ns, sha256, present from images where path in ({marks})"
            for stored, *rest in self.connection.rows((PATH, int, int, int, bytes, int), query, list(chunk)):
                found[chunk[stored]] = Known(*rest)
        return found

    def twins(self, sha256: bytes) -> list[Twin]:
        """Return the images whose file has, or had, this content, in id order."""
        query = """select id, path, segment, row, crc32, width, height, format from images
                   where sha256 = ? order by id"""
        kinds = (int, PATH, int, int, int, int, int, str)
        return [
            Twin(Location(id, segment, row, crc32), self.paths.absolute(path), width, height, format_)
            for id, path, segment, row, crc32, width, height, format_ in self.connection.rows(kinds, query, (sha256,))
        ]

    def images(self) -> Iterator[Image]:
        """Yield the images that are shown, in id order."""
        yield from self._images("where present order by id")

    def records(self, ids: Iterable[int] | None = None) -> list[Image]:
        """Return what is known of images, hidden ones too: all, or those of `ids`."""
        if ids is None:
            return list(self._images("order by id"))
        return [image for id in ids for image in self._images("where id = ?", (id,))]

    def _images(self, which: str, values: tuple[int, ...] = ()) -> Iterator[Image]:
        query = f"select id, path, size, mtime_ns, sha256, width, height, format from images {which}"
        kinds = (int, PATH, int, int, bytes, int, int, str)
        for id, path, size, mtime_ns, sha256, width, height, format_ in self.connection.rows(kinds, query, values):
            yield Image(id, self.paths.absolute(path), size, mtime_ns, sha256.hex(), width, height, format_)

    def image_paths(self, ids: Iterable[int] | None = None) -> dict[int, str]:
        """Return id → absolute path of the images that are shown, in id order: all, or those of `ids`."""
        return dict(self.each_path() if ids is None else chain.from_iterable(map(self.each_path, ids)))

    def each_path(self, id: int | None = None) -> Iterator[tuple[int, str]]:
        """Yield id and absolute path of the images that are shown, in id order: of all, or of the one with that id."""
        which, values = ("order by id", ()) if id is None else ("and id = ?", (id,))
        rows = self.connection.rows((int, PATH), f"select id, path from images where present {which}", values)
        return ((id, self.paths.absolute(path)) for id, path in rows)

    def locations(self, ids: Iterable[int] | None = None, *, hidden: bool = False) -> Iterator[Location]:
        """Yield where vectors lie, in the order of segments and rows, or of `ids`; of hidden images if so wished."""
        query = f"select id, segment, row, crc32 from images where {'true' if hidden else 'present'}"
        if ids is None:
            rows = self.connection.rows(LOCATION, f"{query} order by segment, row")
        else:
            rows = chain.from_iterable(self.connection.rows(LOCATION, f"{query} and id = ?", (id,)) for id in ids)
        return (Location(*row) for row in rows)

    def places(self) -> npt.NDArray[np.int64]:
        """Return id, segment, row and CRC32 (n, 4) of the vectors of all images that are shown, in the order of ids."""
        import numpy as np

        rows = self.connection.execute("select id, segment, row, crc32 from images where present order by id")
        # All rows as tuples at once would take several times the room of the table.
        parts = [np.empty((0, 4), dtype=np.int64)]
        while part := rows.fetchmany(FETCHED):
            parts.append(np.array(part))
        table = np.concatenate(parts)
        if table.dtype != np.int64:
            raise IndexDamaged(f"{self.path} is damaged: it does not say in numbers where vectors lie")
        return table

    def put(self, image: NewImage, segment: int, row: int, crc32: int) -> None:
        """Record an image and its vector: a new id for a new path, the same id for a known one."""
        file, now = image.file, timestamp()
        stored = self.paths.stored(file.path)
        content = (file.size, file.mtime_ns, image.sha256, image.width, image.height, image.format)
        columns = "size, mtime_ns, sha256, width, height, format, segment, row, crc32"
        updated = self.connection.execute(
            f"update images set ({columns}) = (?,?,?,?,?,?,?,?,?), present = 1 where path = ?",
            (*content, segment, row, crc32, stored),
        )
        if updated.rowcount == 0:
            self.connection.execute(
                f"insert into images (path, {columns}, added_at) values (?,?,?,?,?,?,?,?,?,?,?)",
                (stored, *content, segment, row, crc32, now),
            )
        self.journal.settle(stored)

    def move(self, id: int, file: FoundFile) -> None:
        """Record that an image with the same content now lies at `file`, or has new times there, and show it."""
        stored = self.paths.stored(file.path)
        self.connection.execute(
            "update images set path = ?, size = ?, mtime_ns = ?, present = 1 where id = ?",
            (stored, file.size, file.mtime_ns, id),
        )
        self.journal.settle(stored)

    def show(self, ids: Iterable[int], present: bool) -> None:
        """Show or hide images; a hidden one keeps its id and vector for the day that its file comes back."""
        for id in ids:
            self.connection.execute("update images set present = ? where id = ?", (present, id))
            if present:
                # The file is again what the vector was made of, whatever may have failed at its path meanwhile.
                self.connection.execute(
                    "delete from failures where path = (select path from images where id = ?)", (id,)
                )

    def forget(self, ids: Iterable[int]) -> None:
        """Take images out for good."""
        self.connection.executemany("delete from images where id = ?", ((id,) for id in ids))

    # segments

    def segments(self) -> dict[int, int]:
        """Return segment number → committed rows."""
        return dict(self.connection.rows((int, int), "select number, rows from segments order by number"))

    def next_segment(self) -> int:
        """Return a segment number that was never given, so that no reader takes one segment for another."""
        last = int(self.settings().get("last_segment", 0))
        return max([last, *self.segments()]) + 1

    def relocate(self, places: Iterable[Location], rows: dict[int, int]) -> None:
        """Let images point to their vectors' new places, in new segments of so many rows."""
        for number, count in rows.items():
            self.set_rows(number, count)
        query = "update images set segment = ?, row = ? where id = ?"
        self.connection.executemany(query, ((place.segment, place.row, place.id) for place in places))

    def drop_segments(self, numbers: Iterable[int]) -> None:
        """Strike out segments that no image points to any more."""
        self.set_setting("last_segment", str(self.next_segment() - 1))
        self.connection.executemany("delete from segments where number = ?", ((number,) for number in numbers))

    def set_rows(self, segment: int, rows: int) -> None:
        self.connection.execute(
            "insert into segments values (?, ?) on conflict (number) do update set rows = excluded.rows",
            (segment, rows),
        )

    def count(self) -> dict[str, int]:
        """Return how many images are shown and hidden, and how many failures there are."""
        shown, hidden = self.connection.execute(
            "select count(*) filter (where present), count(*) filter (where not present) from images"
        ).fetchone()
        failures = self.connection.execute("select count(*) from failures").fetchone()[0]
        return {"images": shown, "absent": hidden, "failures": failures}

    def integrity(self) -> list[str]:
        """Return what SQLite's own check finds wrong; empty when nothing is."""
        rows = [row[0] for row in self.connection.execute("pragma integrity_check")]
        return [] if rows == ["ok"] else rows

    def checkpoint(self, *, limit: int = 0) -> None:
        """Move the write-ahead log, if it has more bytes than `limit`, into the database, whose checksum then changes.

        A reader may hold a part of it back until the next time; nobody waits for it. Nor is it an error that there is
        no room.
        """
        if self.log_size() <= limit:
            return
        try:
            checksum.withdraw(self.path)
            with impatient(self.connection):
                durable.disk.execute(self.path, self.connection, "pragma wal_checkpoint(truncate)")
            checksum.write(self.path)
        except (OSError, sqlite3.Error) as error:
            # What was committed is safe in the log, and the next writer tries again.
            log.warning("%s: its log stays as it is for now: %s", self.path, error)

    def log_size(self) -> int:
        """Size in bytes of the write-ahead log."""
        return checksum.log_size(self.path)
