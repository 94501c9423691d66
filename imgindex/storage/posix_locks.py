"""Reads a file that SQLite has open without taking SQLite's locks away.

A process loses all its POSIX locks on a file as soon as it closes any descriptor of that file. SQLite keeps track of
its own descriptors only. If imgindex opened and closed another one, the next process would find the database unlocked
and could delete its log. So a descriptor of such a file is kept, and used again, until this process has no connection
to the file.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TypeVar

from imgindex.storage import durable

File = tuple[int, int]  # device and inode
Opened = TypeVar("Opened", bound=sqlite3.Connection)

_lock = threading.RLock()
_connections: dict[File, weakref.WeakSet[sqlite3.Connection]] = {}
_waiting: dict[File, list[int]] = {}


def register(path: str, connect: Callable[[], Opened]) -> Opened:
    """Return the connection to a file that `connect` opens, and remember it until `unregister` is called for it."""
    with _lock:
        connection = connect()
        with contextlib.suppress(OSError):
            _connections.setdefault(file_at(path), weakref.WeakSet()).add(connection)
        return connection


def unregister(connection: sqlite3.Connection) -> None:
    """Forget a closed connection, and close the descriptors that were kept for it alone."""
    with _lock:
        for connections in _connections.values():
            connections.discard(connection)
        _close_unneeded()


@contextlib.contextmanager
def reading(path: str) -> Iterator[int]:
    """Lend a descriptor to read a file with; it is closed when that releases no lock of SQLite. Raises OSError."""
    with _lock:
        waiting = _waiting.get(file_at(path))
        descriptor = waiting.pop() if waiting else durable.open_descriptor(path)
        file = _file(os.fstat(descriptor))
    try:
        yield descriptor
    finally:
        with _lock:
            _waiting.setdefault(file, []).append(descriptor)
            _close_unneeded()


def _close_unneeded() -> None:
    for file in [file for file, connections in _connections.items() if not connections]:
        del _connections[file]
    for file in [file for file in _waiting if file not in _connections]:
        for descriptor in _waiting.pop(file):
            os.close(descriptor)


def file_at(path: str) -> File:
    """Return the identity of the file that has this path now. Raises OSError."""
    return _file(os.stat(path))


def _file(status: os.stat_result) -> File:
    return status.st_dev, status.st_ino


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
