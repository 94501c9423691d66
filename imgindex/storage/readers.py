"""The readers of an open index: connections to its catalogue, used by one thread at a time, and what was made of each
state of the index, which all threads share.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from imgindex.errors import IndexClosed
from imgindex.storage import posix_locks
from imgindex.storage.catalogue import Catalogue

# Connections that are kept for the next thread when theirs has ended.
IDLE = 8
Made = TypeVar("Made")


class State:
    """One state of the index, as a commit left it, and what was made of it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """Return what `make` returns: it is called once, and other threads wait for it meanwhile."""
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
            found: Made = self._made[key]
            return found


class Reader:
    """One connection to the catalogue.

    is_shared: whether it reads a copy, or a file that cannot change. All threads use it then: another copy might be of
    another state. snapshots: how many read it now. is_owned: whether a thread keeps it for its next call.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.is_shared = catalogue.connection.immutable
        self.snapshots = 0
        self.is_owned = False
        # The state that it read last, and SQLite's number of it, which is another one for each connection.
        self.seen: tuple[str, int] | None = None

    def is_of(self, path: str) -> bool:
        """Return whether it reads the file that has this path now; also where there is none any more."""
        with contextlib.suppress(OSError):
            return self.is_shared or self.catalogue.connection.file == posix_locks.file_at(path)
        return True


class Readers:
    """Opens readers with `connect`, lends them to threads, and knows which state each of them reads."""

    def __init__(self, path: str, connect: Callable[[], Catalogue]) -> None:
        self._path, self._connect = path, connect
        self._lock = threading.Lock()
        self._all: set[Reader] = set()
        # No lock: a reader also comes back when Python clears up after a thread, at any moment.
        self._idle: deque[Reader] = deque()
        self._shared: Reader | None = None
        self._states: WeakValueDictionary[str, State] = WeakValueDictionary()
        self._newest: State | None = None
        self._is_closed = False

    def lend(self) -> Reader:
        """Return a reader that no thread uses, or the shared one. Raises IndexClosed, IndexDamaged, FormatTooNew."""
        if self._shared is not None:
            return self._shared
        while self._idle:
            with contextlib.suppress(IndexError):
                reader = self._idle.popleft()
                if reader.is_of(self._path):
                    return reader
                self._close(reader)
        reader = Reader(self._connect())
        with self._lock:
            self._all.add(reader)
            if reader.is_shared:
                self._shared = self._shared or reader
            if not self._is_closed:
                return self._shared or reader
        self._close(reader)
        raise IndexClosed(f"the index {os.path.dirname(self._path)} was closed")

    def give_back(self, reader: Reader) -> None:
        """Keep a reader for the next thread, unless a thread or a snapshot has it still."""
        if reader.is_shared or reader.is_owned or reader.snapshots:
            return
        if len(self._idle) < IDLE:
            self._idle.append(reader)
        else:
            self._close(reader)

    def retire(self, reader: Reader) -> None:
        """Lend a shared reader to no more threads; those that have it may use it until the end."""
        if self._shared is reader:
            self._shared = None

    def _close(self, reader: Reader) -> None:
        self._all.discard(reader)
        reader.catalogue.close()

    def state(self, reader: Reader) -> State:
        """Return the state that a reader reads, within its snapshot."""
        id, version = reader.catalogue.state_id(), reader.catalogue.data_version
        with self._lock:
            found = self._states.get(id)
            # A commit by something else than imgindex leaves the id as it was.
            if found is None or (reader.seen is not None and reader.seen[0] == id and reader.seen[1] != version):
                found = self._states[id] = State()
            reader.seen = id, version
            self._newest = found
            return found

    def close(self, opened_in: int) -> None:
        """Close all readers, when the statements that run in other threads are done.

        opened_in: the process that opened them. After a fork, a thread that holds a connection is not there.
        """
        here = opened_in == os.getpid()
        self._is_closed = True
        with self._lock if here else contextlib.nullcontext():
            readers, self._all, self._newest = self._all, set(), None
        for reader in readers:
            if here or reader.catalogue.connection.lock.acquire(blocking=False):
                reader.catalogue.close()
