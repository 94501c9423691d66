"""Connections to SQLite as the catalogue needs them, and what damage is called when they meet it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from urllib.request import pathname2url

from imgindex.errors import IndexDamaged


def connect(path: str, *, write: bool) -> sqlite3.Connection:
    """Open a database; a reader's connection can never write."""
    address = "file:" + pathname2url(os.path.abspath(path))
    return _writer(address) if write else _reader(address, path)


@contextlib.contextmanager
def naming_damage(path: str) -> Iterator[None]:
    """Raise IndexDamaged where SQLite finds that the file is damaged, or no database at all."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        # Its subclasses speak of something else: a lock, a full disk, a wrong statement.
        if type(error) is not sqlite3.DatabaseError:
            raise
        raise IndexDamaged(f"{path} is damaged: {error}") from error


def _writer(address: str) -> sqlite3.Connection:
    connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=5)
    try:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        # Checkpoints are ours, under the lock: SQLite before 3.51.3 has a rare race between those of two connections.
        connection.execute("pragma wal_autocheckpoint = 0")
        connection.execute("pragma foreign_keys = on")
    except BaseException:
        connection.close()
        raise
    return connection


def _reader(address: str, path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(address + "?mode=ro", uri=True, isolation_level=None, timeout=5)
    try:
        connection.execute("select 1 from sqlite_master").fetchone()
    except sqlite3.OperationalError:
        # A read-only disk has no room for the shared memory of the log, and needs none: nobody writes there.
        connection.close()
        if os.path.exists(path + "-wal") and os.path.getsize(path + "-wal"):
            raise
        connection = sqlite3.connect(address + "?immutable=1", uri=True, isolation_level=None)
    except BaseException:
        connection.close()
        raise
    return connection
