"""The open index of the server: requests read it in several threads, and change it one after the other.

What the index computes of one commit, such as its search, stays in memory until the next one.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from imgindex.errors import IndexClosed
from imgindex.index import ImageIndex

T = TypeVar("T")
# Requests that read the index at a time.
THREADS = 4
# A condition of a request may take so many seconds; other conditions, and pictures to be compared, wait meanwhile.
CONDITION_SECONDS = 2.0


class Snapshot:
    """An open index, and the threads that use it."""

    def __init__(self, path: str) -> None:
        """Open the index. Raises IndexNotFound, IndexDamaged or FormatTooNew."""
        self.path = path
        self._run = secrets.token_hex(4)
        self._index = ImageIndex.open(path, condition_seconds=CONDITION_SECONDS)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="imgindex-snapshot")
        self._slow_thread = ThreadPoolExecutor(1, thread_name_prefix="imgindex-slow")
        self._changing = threading.Lock()

    async def call(self, function: Callable[[ImageIndex], T], *, is_slow: bool = False) -> T:
        """Return what a function makes of the index. is_slow: whether it may take seconds; one such runs at a time."""
        threads = self._slow_thread if is_slow else self._threads
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, function, self._index)
        except RuntimeError as error:
            if "shutdown" in str(error):
                raise IndexClosed("the server is ending") from error
            raise

    async def call_with_tag(self, function: Callable[[ImageIndex], T], *, is_slow: bool = False) -> tuple[T, str]:
        """Return what a function makes of the index, and the entity tag of the commit that it read."""

        def read(index: ImageIndex) -> tuple[T, str]:
            with index._store.reading():
                return function(index), self.tag(index)

        return await self.call(read, is_slow=is_slow)

    async def change(self, function: Callable[[ImageIndex], T]) -> T:
        """Return what a function that changes the index returns, while no other request changes it."""

        def alone(index: ImageIndex) -> T:
            with self._changing:
                return function(index)

        return await self.call(alone)

    def tag(self, index: ImageIndex) -> str:
        """Return the entity tag of the commit that the index reads now, in this run of the server."""
        # Not what `Store.once` keeps: a connection may take one commit for two when its log is moved to the catalogue.
        state = index._store.catalogue.state_id()
        return f'"{self._run}-{hashlib.sha256(state.encode()).hexdigest()[:16]}"'

    def close(self) -> None:
        """Close the index; calls in progress get IndexClosed, and later ones are refused."""
        self._threads.submit(self._index.close)
        for threads in (self._threads, self._slow_thread):
            threads.shutdown(wait=False, cancel_futures=False)
