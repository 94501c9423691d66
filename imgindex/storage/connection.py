"""Connections to SQLite as the catalogue needs them, and what damage is called when they meet it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.request import pathname2url

from imgindex.errors import IndexDamaged
from imgindex.storage import checksum, descriptors

LOGS = ("-wal", "-shm", "-journal")
Kinds = Sequence[type | tuple[type, ...]]
PATH = (str, bytes)
LOT = 500  # rows: what a look at each costs would otherwise outweigh the reading of it
# How SQLite's OperationalErrors begin that speak of the file: texts that are not UTF-8, and a header that is none.
DAMAGE = ("Could not decode", "unsupported file format", "no such table", "no such column")


class Connection(sqlite3.Connection):
    """A connection that calls damage by its name, whenever SQLite meets it."""

    path = ""
    file: descriptors.File | None = None
    # Whether it never looks whether the file or its log changes.
    immutable = False

    def sees_changes(self) -> bool:
        """Whether it reads what is written to its path from now on."""
        return not self.immutable and self.file == descriptors.file_at(self.path)

    def close(self) -> None:
        super().close()
        descriptors.closed(self)

    def execute(self, statement: str, parameters: Any = ()) -> sqlite3.Cursor:
        with NamingDamage(self.path):
            return self.cursor(Cursor).execute(statement, parameters)

    def rows(self, kinds: Kinds, statement: str, parameters: Any = ()) -> Iterator[Any]:
        """Yield the rows of a query. Raises IndexDamaged for a value of another kind: to SQLite kinds mean little."""
        cursor = self.execute(statement, parameters)
        while lot := cursor.fetchmany(LOT):
            for row in lot:
                if not all(map(isinstance, row, kinds)):
                    raise IndexDamaged(f"{self.path} is damaged: it holds what cannot be: {ascii(row)[:200]}")
                yield row

    def executemany(self, statement: str, parameters: Any) -> sqlite3.Cursor:
        with NamingDamage(self.path):
            return super().executemany(statement, parameters)


class Cursor(sqlite3.Cursor):
    """A cursor of such a connection: rows are read one by one or in lots, and damage is met on the way."""

    connection: Connection

    def __next__(self) -> Any:
        with NamingDamage(self.connection.path):
            return super().__next__()

    def fetchone(self) -> Any:
        with NamingDamage(self.connection.path):
            return super().fetchone()

    def fetchmany(self, size: int | None = 1) -> list[Any]:
        with NamingDamage(self.connection.path):
            return super().fetchmany(size)

    def fetchall(self) -> list[Any]:
        with NamingDamage(self.connection.path):
            return super().fetchall()


class NamingDamage(contextlib.AbstractContextManager[None]):
    """Raise IndexDamaged where SQLite finds that the file is damaged, or no database at all."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # Its subclasses speak of something else: a lock, a full disk, a wrong statement. But for these words.
        worded = isinstance(error, sqlite3.OperationalError) and str(error).startswith(DAMAGE)
        if worded or type(error) is sqlite3.DatabaseError or isinstance(error, UnicodeDecodeError):
            raise IndexDamaged(f"{self.path} is damaged: {error}") from error


def connect(path: str, *, write: bool) -> Connection:
    """Open a database; a reader's connection can never write."""
    check_logs(path)
    address = "file:" + pathname2url(os.path.abspath(path))
    with NamingDamage(path):
        return _writer(address, path) if write else _reader(address, path)


def check_logs(path: str) -> None:
    """Raise IndexDamaged where a database and its logs are not plain files side by side.

    SQLite looks for the logs beside the file that a link leads to, and would miss what was committed to ours.
    """
    if os.path.islink(path):
        raise IndexDamaged(f"{path} is a link", hint="put the file itself in its place: its log lies beside it")
    for name in (path + ending for ending in LOGS):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(os.lstat(name).st_mode):
                raise IndexDamaged(f"{name} is no regular file", hint=f"move it away: only {path} and its log count")


def _open(address: str, path: str) -> Connection:
    connection = descriptors.connected(
        path, lambda: sqlite3.connect(address, uri=True, isolation_level=None, timeout=30, factory=Connection)
    )
    connection.path, connection.file = path, descriptors.file_at(path)
    # Somebody else's catalogue may hold statements that run by themselves, and pages that lie about their cells.
    connection.execute("pragma trusted_schema = off")
    connection.execute("pragma cell_size_check = on")
    return connection


def _writer(address: str, path: str) -> Connection:
    connection = _open(address, path)
    try:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        # On macOS alone, where fsync stops at the drive's cache.
        connection.execute("pragma fullfsync = on")
        # Checkpoints are ours, under the lock: SQLite before 3.51.3 has a rare race between those of two connections.
        connection.execute("pragma wal_autocheckpoint = 0")
        connection.execute("pragma foreign_keys = on")
    except BaseException:
        connection.close()
        raise
    return connection


def _reader(address: str, path: str) -> Connection:
    connection = _open(address + "?mode=ro", path)
    try:
        connection.execute("select 1 from sqlite_master").fetchone()
    except sqlite3.OperationalError:
        # Where we may not write there is no room for the shared memory of the log.
        connection.close()
        if os.path.exists(path + "-journal"):
            raise IndexDamaged(f"{path} cannot be read before what {path}-journal holds is undone") from None
        folder = os.path.dirname(path)
        if os.access(folder, os.W_OK):
            raise
        nobody_writes = os.statvfs(folder).f_flag & os.ST_RDONLY and not checksum.log_size(path)
        connection = _open(address + "?immutable=1", path) if nobody_writes else _copied(path)
        connection.immutable = True
    except BaseException:
        connection.close()
        raise
    return connection


def _copied(path: str) -> Connection:
    """Open a copy of a database and its log: their owner may write at any time, and we cannot hold him off."""
    with tempfile.TemporaryDirectory(prefix="imgindex-") as folder:
        copy = os.path.join(folder, os.path.basename(path))
        for _ in range(checksum.TRIES):
            before = checksum.stored(path)
            _copy(path, copy)
            with contextlib.suppress(FileNotFoundError):
                _copy(path + "-wal", copy + "-wal")
            if checksum.stored(path) == before:  # no part of the log has become part of the file meanwhile
                break
        connection = _open("file:" + pathname2url(copy), copy)
        connection.path = path
        connection.execute("pragma query_only = on")
        # Opens the log too; what is open outlives its name.
        connection.execute("select 1 from sqlite_master").fetchone()
        return connection


def _copy(path: str, copy: str) -> None:
    # Not by a descriptor that is closed behind it: see descriptors.py.
    with descriptors.lent(path) as descriptor, open(copy, "wb") as file:
        offset = 0
        while block := os.pread(descriptor, checksum.BLOCK, offset):
            offset += file.write(block)


@contextlib.contextmanager
def impatient(connection: sqlite3.Connection) -> Iterator[None]:
    """Let the block's statements give up at once where they would wait for another connection."""
    patience = connection.execute("pragma busy_timeout").fetchone()[0]
    connection.execute("pragma busy_timeout = 0")
    try:
        yield
    finally:
        connection.execute(f"pragma busy_timeout = {patience}")
