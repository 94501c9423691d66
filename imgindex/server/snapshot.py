"""The open index of the server: requests read it, and change its tags and names, one after the other.

What the index computes of one commit, such as its search, stays in memory until the next one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from imgindex.errors import IndexClosed
from imgindex.index import ImageIndex
from imgindex.storage.store import Store

T = TypeVar("T")
# A condition of a request may take so many seconds: all others wait meanwhile.
CONDITION_SECONDS = 2.0


class Snapshot:
    """An index, opened in a thread of its own, which alone uses it."""

    def __init__(self, path: str) -> None:
        """Open the index. Raises IndexNotFound, IndexDamaged or FormatTooNew."""
        self.path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="imgindex-snapshot")
        self._run = secrets.token_hex(4)
        try:
            self._index = self._thread.submit(ImageIndex.open, path, condition_seconds=CONDITION_SECONDS).result()
        except BaseException:
            self._thread.shutdown()
            raise

    async def call(self, function: Callable[[ImageIndex], T]) -> T:
        """Return what a function makes of the index."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, self._index)
        except RuntimeError as error:
            if "shutdown" in str(error):
                raise IndexClosed("the server is ending") from error
            raise

    async def call_with_tag(self, function: Callable[[ImageIndex], T]) -> tuple[T, str]:
        """Return what a function makes of the index, and the entity tag of the commit that it read."""

        def read(index: ImageIndex) -> tuple[T, str]:
            tag = self.tag(index)
            return function(index), tag

        return await self.call(read)

    def tag(self, index: ImageIndex) -> str:
        """Return the entity tag of the commit that the index reads now, in this run of the server."""
        return f'"{self._run}-{index._store.once(_new_commit):x}"'

    def close(self) -> None:
        """Close the index when the call in progress has ended; later calls are refused."""
        self._thread.submit(self._index.close)
        self._thread.shutdown(wait=False, cancel_futures=False)


_commits = iter(range(1, 1 << 62))


def _new_commit(store: Store) -> int:
    """Return a number that no commit had before in this process; `Store.once` asks for one for each commit."""
    return next(_commits)
