"""The catalogue: a SQLite database of everything that is known about the images, and the only commit point."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import sqlite3
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from types import NoneType
from typing import TYPE_CHECKING, Any

from imgindex.errors import FormatTooNew, IndexClosed, IndexDamaged
from imgindex.sources.addresses import is_address
from imgindex.storage import checksum, durable, posix_locks, schema
from imgindex.storage.connection import PATH, Kinds, RaisingIndexDamaged, connect, no_waiting
from imgindex.storage.ledger import Ledger, timestamp
from imgindex.storage.paths import PathMap, StoredPath, as_on_disk, real_path
from imgindex.storage.records import KnownImage, Location, NewImage, SameContent, clamp_int64, stored_stat
from imgindex.types import FoundFile, Image

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

log = logging.getLogger(__name__)

LOG_LIMIT = 64 << 20
LOCATION = (int, int, int, int)
PATHS_PER_QUERY = IDS_PER_QUERY = 500  # below the limit on variables of every SQLite
# Folders whose images are found by the index of paths; those of more are found by reading all paths.
PLACES_PER_QUERY = 50
# The first formats that record where links lead, ctime and inode, hashes, and versions.
WITH_REAL_PATHS, WITH_INODES, WITH_HASHES, WITH_VERSIONS = 4, 4, 4, 5
FETCHED = 2000  # rows at a time
NUMBER = (int, type(None))
VERSION = (str, type(None))
KNOWN = (PATH, int, bytes, int, int, int, NUMBER, NUMBER, VERSION)
# The setting that each commit gives a new random value: by it, readers in several threads know what they share.
STATE_SETTING = "state"
# Where the header of a SQLite database has its magic and user_version, in bytes.
HEADER_SIZE, MAGIC, USER_VERSION = 100, b"SQLite format 3\0", slice(60, 64)


class Catalogue:
    """One connection to catalogue.db; a reader's connection can never write.

    Raises FormatTooNew before anything else is checked; IndexDamaged.
    """

    def __init__(self, path: str, paths: PathMap, *, write: bool = False) -> None:
        self.path, self.paths = path, paths
        check_format(path)
        self.connection = connect(path, write=write)
        self.ledger = Ledger(self.connection, paths)
        try:
            self._check_version(write)
        except BaseException:
            self.connection.close()
            raise

    @property
    def version(self) -> int:
        """The format as it is now: a writer may have migrated the catalogue since it was opened here."""
        version: int = self.connection.execute("pragma user_version").fetchone()[0]
        return version

    def _check_version(self, write: bool) -> None:
        version = self.version
        refuse_newer(self.path, version)  # the log may hold a newer version than the header of the file
        if version < 1 and not write:
            raise IndexDamaged(f"{self.path} is not a finished catalogue (format {version})")
        schema.check_schema(self.connection, version)
        if version == schema.NEWEST or not write:
            return
        with self.atomic():
            if version < 1:
                schema.create(self.connection)
            else:
                # Imported late: sqlite-utils imports pandas if it is installed, which takes half a second.
                from imgindex.storage.migrations import migrate

                migrate(self.connection)

    @property
    def data_version(self) -> int:
        """A number that is another one after each commit of another connection, as this connection sees it."""
        number: int = self.connection.execute("pragma data_version").fetchone()[0]
        return number

    def state_id(self) -> str:
        """Return what the last commit of imgindex set to a new random value; "" before the first."""
        found = next(self.connection.rows((str,), "select value from settings where key = ?", (STATE_SETTING,)), ("",))
        return str(found[0])

    def close(self) -> None:
        self.connection.close()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read one state of the catalogue within the block, even if a writer commits meanwhile."""
        with RaisingIndexDamaged(self.path):
            within = self.connection.immutable or self.connection.in_transaction
        if within:
            yield
            return
        self.connection.execute("begin")
        ignored: tuple[type[IndexClosed], ...] = ()
        try:
            yield
        except GeneratorExit:
            # Ctrl-C left the block before its end. Python would print an error, and no caller would get it.
            ignored = (IndexClosed,)
            raise
        finally:
            # Raises IndexClosed if the index was closed within the block.
            with contextlib.suppress(*ignored), RaisingIndexDamaged(self.path):
                if self.connection.in_transaction:
                    self.connection.execute("rollback")

    @contextlib.contextmanager
    def atomic(self) -> Iterator[None]:
        """Commit everything that the block writes, or nothing."""
        checksum.mark_open(self.path)
        self.connection.execute("begin immediate")
        before = self.connection.total_changes
        try:
            yield
            if self.connection.total_changes != before:
                self.set_setting(STATE_SETTING, secrets.token_hex(8))
            durable.disk.execute(self.path, self.connection, "commit")
        except BaseException as error:
            if self.connection.in_transaction:
                self.connection.execute("rollback")
            if isinstance(error, (OSError, sqlite3.Error)):
                self.void_commit()
            raise

    def void_commit(self) -> None:
        """Overwrite a commit that failed, if possible.

        If only its sync failed, the log holds the whole commit. After a crash SQLite would treat it as done, although
        its rows may have been given to other images since.
        """
        # IndexDamaged is raised if it was the creation of the tables that failed.
        with contextlib.suppress(OSError, sqlite3.Error, IndexDamaged):
            self.connection.execute("begin immediate")
            try:
                self.set_setting("last_failed_commit", timestamp())
                self.set_setting(STATE_SETTING, secrets.token_hex(8))
                durable.disk.execute(self.path, self.connection, "commit")
            finally:
                if self.connection.in_transaction:
                    self.connection.execute("rollback")

    # Settings.

    def settings(self) -> dict[str, str]:
        return dict(self.connection.rows((str, str), "select key, value from settings"))

    def set_setting(self, key: str, value: str) -> None:
        self.connection.execute("insert or replace into settings values (?, ?)", (key, value))

    def remove_setting(self, key: str) -> None:
        self.connection.execute("delete from settings where key = ?", (key,))

    # Images.

    def known(self, paths: Sequence[str]) -> dict[str, KnownImage]:
        """Return what is known of the images at these absolute paths, missing images included."""
        found = {}
        numbers = self._numbers()
        for start in range(0, len(paths), PATHS_PER_QUERY):
            chunk = {self.paths.stored(path): path for path in paths[start : start + PATHS_PER_QUERY]}
            marks = ",".join("?" * len(chunk))
            query = f"select path, id, sha256, present, size, mtime_ns, {numbers} from images where path in ({marks})"
            for row in self.connection.rows(KNOWN, query, list(chunk)):
                found[chunk[row[0]]] = KnownImage(row[1], row[2], row[3], row[4:])
        return found

    def find(self, path: str) -> tuple[str, KnownImage] | None:
        """Return the image that an absolute path names, missing images included, with the path that it is stored at.

        The path may be another one than is stored, if it leads to the same file through links, or differs in how an
        accent is written. Raises PathNotFound as `as_on_disk`.
        """
        for form in dict.fromkeys((path, path if path.isascii() else as_on_disk(path))):
            if known := self.known([form]):
                return form, known[form]
        return self.same_file(form, real_path(form))

    def same_file(self, path: str, real: str) -> tuple[str, KnownImage] | None:
        """Return what `find` returns for a path that no image is stored at; real: its real path."""
        if is_address(path):
            return None
        stored = self.paths.stored(real)
        forms = {real, *(unicodedata.normalize(form, real) for form in ("NFC", "NFD"))}
        marks = ",".join("?" * len(forms))
        condition = f"path in ({marks})" + (" or real_path = ?" if self.version >= WITH_REAL_PATHS else "")
        query = f"select path, id, sha256, present, size, mtime_ns, {self._numbers()} from images where {condition}"
        values = [*map(self.paths.stored, forms), *([stored] if self.version >= WITH_REAL_PATHS else [])]
        exists = os.path.lexists(real)
        for found, id, sha256, present, *stat in self.connection.rows(KNOWN, query, values):
            at = self.paths.absolute(found)
            # A link may lead to another file than when the image was stored.
            if _leads_to(at, real) if exists else not os.path.lexists(at):
                return at, KnownImage(id, sha256, present, tuple(stat))
        return None

    def _numbers(self) -> str:
        version = self.version
        numbers = "ctime_ns, inode" if version >= WITH_INODES else "null, null"
        return f"{numbers}, {'version' if version >= WITH_VERSIONS else 'null'}"

    def has_real_paths(self) -> bool:
        """Return whether any image was found through a link."""
        query = "select exists (select 1 from images where real_path is not null)"
        return self.version >= WITH_REAL_PATHS and bool(self.connection.execute(query).fetchone()[0])

    def each_place(self, below: Collection[str] | None = None) -> Iterator[tuple[int, str, str | None]]:
        """Yield id, absolute path and, where links lead to it, real path of present images in the order of ids.

        below: absolute paths. The images at and below them, and all that links lead to, are among those that are
        yielded; of a few paths no others are.
        """
        real = "real_path" if self.version >= WITH_REAL_PATHS else "null"
        few = below is not None and len(below) <= PLACES_PER_QUERY
        ranges = [self.paths.stored_below(path) for path in below or ()] if few else []
        absolute = self.paths.absolute
        if below is None or not few or None in ranges:
            condition, values = "true", []
        else:
            between = [pair for pairs in ranges for pair in pairs or ()]
            values = [*map(self.paths.stored, below), *chain.from_iterable(between)]
            one_of = f"path in ({', '.join('?' * len(below))})"
            condition = " or ".join([one_of, *["path > ? and path < ?"] * len(between), f"{real} is not null"])
        query = f"select id, path, {real} from images where present and ({condition}) order by id"
        for id, path, real in self.connection.rows((int, PATH, (*PATH, type(None))), query, values):
            yield id, absolute(path), None if real is None else absolute(real)

    @property
    def hash_columns(self) -> str:
        """The columns of hashes and blankness; null where a reader has opened a catalogue of an older format."""
        return "hashes, blank" if self.version >= WITH_HASHES else "null, null"

    def has_images(self) -> bool:
        """Return whether there is any image, missing ones included."""
        return bool(self.connection.execute("select exists (select 1 from images)").fetchone()[0])

    def same_content(self, sha256: bytes) -> list[SameContent]:
        """Return the images whose file has this content, or had it when it was last seen, in the order of ids."""
        return self.same_contents([sha256]).get(sha256, [])

    def same_contents(self, sha256s: Collection[bytes]) -> dict[bytes, list[SameContent]]:
        """Return what `same_content` does for each of a few contents, without those that no image has."""
        query = f"""select sha256, id, path, segment, row, crc32, width, height, format, {self.hash_columns} from images
                    where sha256 in ({",".join("?" * len(sha256s))}) order by id"""
        kinds = (bytes, int, PATH, int, int, int, int, int, str, (bytes, NoneType), (int, NoneType))
        found: dict[bytes, list[SameContent]] = {}
        rows = self.connection.rows(kinds, query, list(sha256s)) if sha256s else ()
        for sha256, id, path, segment, row, crc32, *picture in rows:
            location = Location(id, segment, row, crc32)
            found.setdefault(sha256, []).append(SameContent(location, self.paths.absolute(path), *picture))
        return found

    def images(self, ids: Iterable[int] | None = None) -> Iterator[Image]:
        """Yield the present images in the order of ids, or those of `ids` in their order."""
        if ids is None:
            yield from self._images("where present order by id")
            return
        for id in ids:
            yield from self._images("where present and id = ?", (clamp_int64(id),))

    def records(self, ids: Iterable[int] | None = None) -> list[Image]:
        """Return all images, or those with `ids`; missing images too."""
        if ids is None:
            return list(self._images("order by id"))
        return [image for id in ids for image in self._images("where id = ?", (id,))]

    def _images(self, which: str, values: tuple[int, ...] = ()) -> Iterator[Image]:
        query = f"select id, path, size, mtime_ns, sha256, width, height, format from images {which}"
        kinds = (int, PATH, int, int, bytes, int, int, str)
        for id, path, size, mtime_ns, sha256, width, height, format_ in self.connection.rows(kinds, query, values):
            yield Image(id, self.paths.absolute(path), size, mtime_ns, sha256.hex(), width, height, format_)

    def image_paths(self, ids: Iterable[int] | None = None) -> dict[int, str]:
        """Return id → absolute path of the present images: of all in the order of ids, or of `ids` in their order."""
        if ids is None:
            return dict(self.each_path())
        found = list(self._by_id((int, PATH), "id, path", "present", map(clamp_int64, ids)))
        return dict(zip((id for id, _ in found), self.paths.all_absolute([path for _, path in found]), strict=True))

    def each_path(self) -> Iterator[tuple[int, str]]:
        """Yield id and absolute path of all present images in the order of ids."""
        rows = self.connection.rows((int, PATH), "select id, path from images where present order by id")
        while part := list(islice(rows, FETCHED)):
            yield from zip((id for id, _ in part), self.paths.all_absolute([path for _, path in part]), strict=True)

    def images_digest(self) -> str:
        """Return a digest of the present images: another one after any change of them or of their files.

        It stays when tags, tables or clusterings change.
        """
        import msgspec

        query = "select id, path, size, mtime_ns, sha256, crc32 from images where present order by id"
        rows, digest = self.connection.execute(query), hashlib.sha256()
        while part := rows.fetchmany(FETCHED):
            digest.update(msgspec.msgpack.encode(part))
        return digest.hexdigest()

    def locations(self, ids: Iterable[int] | None = None, *, include_missing: bool = False) -> Iterator[Location]:
        """Yield the locations of the vectors of present images, in the order of segments and rows, or of `ids`."""
        columns, condition = "id, segment, row, crc32", "true" if include_missing else "present"
        if ids is None:
            query = f"select {columns} from images where {condition} order by segment, row"
            return (Location(*row) for row in self.connection.rows(LOCATION, query))
        return (Location(*row) for row in self._by_id(LOCATION, columns, condition, ids))

    def _by_id(self, kinds: Kinds, columns: str, condition: str, ids: Iterable[int]) -> Iterator[Any]:
        """Yield columns of the images with these ids, in the order of `ids`; the first column is the id."""
        ids = iter(ids)
        while part := list(islice(ids, IDS_PER_QUERY)):
            query = f"select {columns} from images where {condition} and id in ({','.join('?' * len(part))})"
            rows = {row[0]: row for row in self.connection.rows(kinds, query, part)}
            yield from (rows[id] for id in part if id in rows)

    def location_table(self) -> npt.NDArray[np.int64]:
        """Return id, segment, row and CRC32 of the vectors of all present images, int64 (n, 4), in the order of ids."""
        import numpy as np

        rows = self.connection.execute("select id, segment, row, crc32 from images where present order by id")
        # All rows as tuples at once would take several times the memory of the table.
        parts = [np.empty((0, 4), dtype=np.int64)]
        while part := rows.fetchmany(FETCHED):
            parts.append(np.array(part))
        table = np.concatenate(parts)
        if table.dtype != np.int64:
            raise IndexDamaged(f"{self.path} is damaged: the locations of vectors are not integers")
        return table

    def location_table_beyond(
        self, covered: Mapping[int, int], *, include_missing: bool = False
    ) -> npt.NDArray[np.int64]:
        """Return what `location_table` does, but only for the vectors behind the first rows of each segment.

        covered: segment number → its first rows to leave out. The index of segments and rows finds the others, so that
        a few of them are read from a large catalogue in milliseconds.
        """
        import numpy as np

        query = f"select id, segment, row, crc32 from images where segment = ? and row >= ?{_present(include_missing)}"
        parts = [np.empty((0, 4), dtype=np.int64)]
        for number in self.segments():
            rows = self.connection.rows(LOCATION, query, (number, covered.get(number, 0)))
            while part := list(islice(rows, FETCHED)):
                parts.append(np.array(part, dtype=np.int64))
        table = np.concatenate(parts)
        found: npt.NDArray[np.int64] = table[np.argsort(table[:, 0])]
        return found

    def count_beyond(self, covered: Mapping[int, int]) -> int:
        """Return how many rows `location_table_beyond` returns."""
        query = f"select count(*) from images where segment = ? and row >= ?{_present(False)}"
        counts = (
            self.connection.execute(query, (number, covered.get(number, 0))).fetchone()[0] for number in self.segments()
        )
        return sum(counts)

    def last_id(self) -> int:
        """Return the highest id of an image, 0 where there is none: no more images than that can be found."""
        return int(self.connection.execute("select coalesce(max(id), 0) from images").fetchone()[0])

    def put_each(self, images: Iterable[tuple[NewImage, int, int, int, StoredPath | None]]) -> None:
        """Record images with segment, row and CRC32 of their vectors. A new path gets a new id; a known one keeps its.

        The last value is the stored form of the file's real path, where that is another one.
        """
        now = timestamp()
        columns = (
            "path, real_path, size, mtime_ns, ctime_ns, inode, version, sha256, width, height, format, hashes, blank, "
            "segment, row, crc32"
        )
        replaced = ", ".join(f"{column} = excluded.{column}" for column in columns.split(", ")[1:])
        rows, paths = [], []
        for image, *place, real in images:
            picture = image.width, image.height, image.format, image.hashes, image.blank
            paths.append(self.paths.stored(image.file.path))
            rows.append((paths[-1], real, *stored_stat(image.file), image.sha256, *picture, *place, now))
        self.connection.executemany(
            f"insert into images ({columns}, added_at) values (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) "
            f"on conflict (path) do update set {replaced}, present = 1",
            rows,
        )
        self.ledger.clear_each(paths)

    def move(self, id: int, file: FoundFile, *, real: StoredPath | None = None) -> None:
        """Record that an image lies at `file` now, or has new times there, and mark it as present.

        real: as the last value in `put_each`.
        """
        stored = self.paths.stored(file.path)
        self.connection.execute(
            "update images set (path, real_path, size, mtime_ns, ctime_ns, inode, version) = (?,?,?,?,?,?,?), "
            "present = 1 where id = ?",
            (stored, real, *stored_stat(file), id),
        )
        self.ledger.clear(stored)

    def record_stat(self, files: Iterable[FoundFile]) -> None:
        """Record ctime and inode of the files of images and failures that are otherwise unchanged."""
        rows = [(*stored_stat(file)[2:4], self.paths.stored(file.path)) for file in files]
        for table in ("images", "failures"):
            self.connection.executemany(f"update {table} set ctime_ns = ?, inode = ? where path = ?", rows)

    def set_present(self, ids: Iterable[int], present: bool) -> None:
        """Mark images as present or missing; a missing image keeps its id and vector, in case its file comes back."""
        for id in ids:
            self.connection.execute("update images set present = ? where id = ?", (present, id))
            if present:
                # The file has the content again that the vector was made from, so a failure at its path is outdated.
                self.connection.execute(
                    "delete from failures where path = (select path from images where id = ?)", (id,)
                )

    def forget(self, ids: Iterable[int]) -> None:
        """Delete images, with their ids."""
        self.connection.executemany("delete from images where id = ?", ((id,) for id in ids))

    # Segments.

    def segments(self) -> dict[int, int]:
        """Return segment number → committed rows."""
        return dict(self.connection.rows((int, int), "select number, rows from segments order by number"))

    def next_segment(self) -> int:
        """Return a segment number that was never used, so that no reader confuses two segments."""
        last = int(self.settings().get("last_segment", 0))
        return max([last, *self.segments()]) + 1

    def relocate(self, locations: Iterable[Location], rows: dict[int, int]) -> None:
        """Record new locations of vectors, in new segments.

        rows: segment number → rows of the new segments.
        """
        for number, count in rows.items():
            self.set_rows(number, count)
        query = "update images set segment = ?, row = ? where id = ?"
        self.connection.executemany(query, ((one.segment, one.row, one.id) for one in locations))

    def drop_segments(self, numbers: Iterable[int]) -> None:
        """Delete segments that no image refers to any more."""
        self.set_setting("last_segment", str(self.next_segment() - 1))
        self.connection.executemany("delete from segments where number = ?", ((number,) for number in numbers))

    def set_rows(self, segment: int, rows: int) -> None:
        self.connection.execute(
            "insert into segments values (?, ?) on conflict (number) do update set rows = excluded.rows",
            (segment, rows),
        )

    def count(self) -> dict[str, int]:
        """Return the numbers of present images (`images`), missing images and failures."""
        present, missing = self.connection.execute(
            "select count(*) filter (where present), count(*) filter (where not present) from images"
        ).fetchone()
        failures = self.connection.execute("select count(*) from failures").fetchone()[0]
        return {"images": present, "missing": missing, "failures": failures}

    def integrity(self) -> list[str]:
        """Return the problems that SQLite's own check finds; an empty list when there are none."""
        rows = [row[0] for row in self.connection.execute("pragma integrity_check")]
        return [] if rows == ["ok"] else rows

    def checkpoint(self, *, limit: int = 0) -> None:
        """Move the write-ahead log into the database if it has more than `limit` bytes, and renew the checksums.

        A part that a reader still needs stays in the log until the next time; this does not wait for the reader. A full
        disk is not an error either. Raises IndexDamaged as `checksum.renewing` does.
        """
        if self.log_size() <= limit:
            return
        try:
            with checksum.renewing(self.path), no_waiting(self.connection):
                durable.disk.execute(self.path, self.connection, "pragma wal_checkpoint(truncate)")
        except (OSError, sqlite3.Error) as error:
            # The commits are safe in the log, and the next writer tries again.
            log.warning("%s: the write-ahead log was not moved into the database: %s", self.path, error)

    def log_size(self) -> int:
        """Return the size in bytes of the write-ahead log."""
        return checksum.log_size(self.path)


def _present(include_missing: bool) -> str:
    return "" if include_missing else " and present"


def check_format(path: str) -> None:
    """Raise FormatTooNew where the header of a catalogue has a newer format; any other problem is left to SQLite.

    No connection is opened: SQLite would look at the logs first, and a writer's connection changes the file.
    """
    try:
        with posix_locks.reading(path) as descriptor:
            header = os.pread(descriptor, HEADER_SIZE, 0)
    except OSError:
        return
    if header.startswith(MAGIC) and len(header) == HEADER_SIZE:
        refuse_newer(path, int.from_bytes(header[USER_VERSION], "big", signed=True))


def refuse_newer(path: str, version: int) -> None:
    """Raise FormatTooNew for a version of the catalogue that this imgindex does not know."""
    if version > schema.NEWEST:
        raise FormatTooNew(f"{path} has format {version}, and this imgindex reads formats up to {schema.NEWEST}")


def _leads_to(path: str, real: str) -> bool:
    """Return whether a path leads to the file at a real path: through links, or because the disk ignores accents."""
    if real_path(path) == real:
        return True
    try:
        info = os.stat(real)
        # Hard links are files of their own.
        return info.st_nlink == 1 and os.path.samestat(os.stat(path), info)
    except (OSError, ValueError):
        return False
