"""Connections to SQLite as the catalogue needs them; a damaged file raises IndexDamaged, whichever call finds it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from imgindex.errors import IndexClosed, IndexDamaged
from imgindex.storage import checksum, posix_locks

LOGS = ("-wal", "-shm", "-journal")
Kinds = Sequence[type | tuple[type, ...]]
PATH = (str, bytes)
# Rows that are fetched at once: checking the types of rows fetched one by one would take longer than reading them.
ROWS_AT_ONCE = 500
# How the messages of SQLite's OperationalErrors begin that mean a damaged file: text that is not UTF-8, a wrong header.
DAMAGE = ("Could not decode", "unsupported file format", "no such table", "no such column")


class Connection(sqlite3.Connection):
    """A connection that raises IndexDamaged whenever SQLite finds damage.

    Any thread may use it. A lock lets one statement run at a time: Python's module may crash where one thread closes a
    connection while another one reads a row of it.
    """

    path = ""
    file: posix_locks.File | None = None
    # Whether it ignores changes of the file and of its log.
    immutable = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.lock = threading.RLock()

    def sees_changes(self) -> bool:
        """Whether it reads what is written to its path from now on."""
        return not self.immutable and self.file == posix_locks.file_at(self.path)

    def close(self) -> None:
        with self.lock:
            super().close()
        posix_locks.unregister(self)

    def execute(self, statement: str, parameters: Any = ()) -> sqlite3.Cursor:
        with self.lock, RaisingIndexDamaged(self.path):
            return self.cursor(Cursor).execute(statement, parameters)

    def rows(self, kinds: Kinds, statement: str, parameters: Any = ()) -> Iterator[Any]:
        """Yield the rows of a query. Raises IndexDamaged for a value of another type: SQLite does not enforce types."""
        cursor = self.execute(statement, parameters)
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            for row in rows:
                if not all(map(isinstance, row, kinds)):
                    raise IndexDamaged(f"{self.path} is damaged: it holds an impossible row: {ascii(row)[:200]}")
                yield row

    def executemany(self, statement: str, parameters: Any) -> sqlite3.Cursor:
        with self.lock, RaisingIndexDamaged(self.path):
            return super().executemany(statement, parameters)


class Cursor(sqlite3.Cursor):
    """A cursor of such a connection: damage may be found while rows are fetched."""

    connection: Connection

    def __next__(self) -> Any:
        with self.connection.lock, RaisingIndexDamaged(self.connection.path):
            return super().__next__()

    def fetchone(self) -> Any:
        with self.connection.lock, RaisingIndexDamaged(self.connection.path):
            return super().fetchone()

    def fetchmany(self, size: int | None = 1) -> list[Any]:
        with self.connection.lock, RaisingIndexDamaged(self.connection.path):
            return super().fetchmany(size)

    def fetchall(self) -> list[Any]:
        with self.connection.lock, RaisingIndexDamaged(self.connection.path):
            return super().fetchall()


class RaisingIndexDamaged(contextlib.AbstractContextManager[None]):
    """Raise IndexDamaged where SQLite finds that the file is damaged, or is not a database; IndexClosed after close."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # DatabaseError itself means damage. Its subclasses mean a lock, a full disk or a wrong statement; only the
        # messages in DAMAGE mean damage as well.
        known = isinstance(error, sqlite3.OperationalError) and str(error).startswith(DAMAGE)
        if known or type(error) is sqlite3.DatabaseError or isinstance(error, UnicodeDecodeError):
            raise IndexDamaged(f"{self.path} is damaged: {error}") from error
        # An answer was being read, one row after the other, when the index was closed.
        if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
            raise IndexClosed(f"the index {os.path.dirname(self.path)} was closed") from error


def address_of(path: str, mode: str = "") -> str:
    """Return the address by which SQLite opens a file; mode: ro, or rwc to make it, or as SQLite does by itself."""
    # `urllib.request.pathname2url` does the same, but imports HTTP and TLS, which takes longer than opening the index.
    return f"file:{quote(os.fsencode(os.path.abspath(path)))}" + (f"?mode={mode}" if mode else "")


def connect(path: str, *, write: bool) -> Connection:
    """Open a database; a reader's connection can never write."""
    check_logs(path)
    address = address_of(path)
    with RaisingIndexDamaged(path):
        return _writer(address, path) if write else _reader(address, path)


def check_logs(path: str) -> None:
    """Raise IndexDamaged where a database and its logs are not plain files side by side.

    SQLite looks for the logs beside the target of a link, and would miss what is in the logs beside the link.
    """
    if os.path.islink(path):
        raise IndexDamaged(f"{path} is a link", hint="put the file itself in its place: its log has to lie beside it")
    for name in (path + ending for ending in LOGS):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(os.lstat(name).st_mode):
                raise IndexDamaged(
                    f"{name} is not a regular file", hint=f"move it away: only {path} and its log are needed"
                )


def _open(address: str, path: str) -> Connection:
    connection = posix_locks.register(
        path,
        lambda: sqlite3.connect(
            address, uri=True, isolation_level=None, timeout=30, factory=Connection, check_same_thread=False
        ),
    )
    connection.path, connection.file = path, posix_locks.file_at(path)
    # A catalogue from elsewhere may hold statements that run by themselves, and pages with wrong cell sizes.
    connection.execute("pragma trusted_schema = off")
    connection.execute("pragma cell_size_check = on")
    return connection


def _writer(address: str, path: str) -> Connection:
    connection = _open(address, path)
    try:
        # The answer is read, because SQLite reports a failed write after it. A catalogue that kept its rollback journal
        # would change to the log later, in bytes that have checksums by then.
        if connection.execute("pragma journal_mode = wal").fetchall() != [("wal",)]:
            raise sqlite3.OperationalError(
                "SQLite's write-ahead log cannot be used there: its file system does not let processes share memory"
            )
        connection.execute("pragma synchronous = full")
        # Has an effect on macOS only, where fsync stops at the drive's cache.
        connection.execute("pragma fullfsync = on")
        # imgindex makes the checkpoints itself, under the lock: SQLite before 3.51.3 has a rare race between the
        # checkpoints of two connections.
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
        # In a folder that this process may not write to, SQLite cannot create the shared memory of the log.
        connection.close()
        if os.path.exists(path + "-journal"):
            raise IndexDamaged(f"{path} cannot be read: {path}-journal holds changes that were not undone") from None
        folder = os.path.dirname(path)
        if os.access(folder, os.W_OK):
            raise
        unchanging = os.statvfs(folder).f_flag & os.ST_RDONLY and not checksum.log_size(path)
        connection = _open(address + "?immutable=1", path) if unchanging else _open_copy(path)
        connection.immutable = True
    except BaseException:
        connection.close()
        raise
    return connection


def _open_copy(path: str) -> Connection:
    """Open a copy of a database and its log: the owner may write at any time, and we cannot lock the files."""
    with tempfile.TemporaryDirectory(prefix="imgindex-") as folder:
        copy = os.path.join(folder, os.path.basename(path))
        for _ in range(checksum.TRIES):
            before = checksum.read(path)
            _copy(path, copy)
            with contextlib.suppress(FileNotFoundError):
                _copy(path + "-wal", copy + "-wal")
            if checksum.read(path) == before:  # no part of the log was moved into the file meanwhile
                break
        connection = _open(address_of(copy), copy)
        connection.path = path
        connection.execute("pragma query_only = on")
        # This opens the log too. Open files stay readable after their names are gone.
        connection.execute("select 1 from sqlite_master").fetchone()
        return connection


def _copy(path: str, copy: str) -> None:
    # Closing a descriptor of its own would release SQLite's locks: see posix_locks.py.
    with posix_locks.reading(path) as descriptor, open(copy, "wb") as file:
        offset = 0
        while block := os.pread(descriptor, checksum.READ_AT_ONCE, offset):
            offset += file.write(block)


@contextlib.contextmanager
def no_waiting(connection: sqlite3.Connection) -> Iterator[None]:
    """Let the statements of the block fail at once where they would wait for another connection."""
    timeout = connection.execute("pragma busy_timeout").fetchone()[0]
    connection.execute("pragma busy_timeout = 0")
    try:
        yield
    finally:
        connection.execute(f"pragma busy_timeout = {timeout}")
