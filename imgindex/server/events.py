"""What happens in the server, for pages that watch it: jobs that go on, and commits by any process."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

# Seconds between two looks for a commit, and between two lines that keep a connection alive.
LOOK, ALIVE = 1.0, 15.0
# Events that wait for one reader; a slower one loses the oldest.
MOST_WAITING = 256


class Events:
    """Sends events to all readers; any thread may publish.

    commit: returns the entity tag of the newest commit, which is looked at while anyone reads.
    """

    def __init__(self, commit: Callable[[], Awaitable[str]]) -> None:
        self._commit = commit
        self._readers: set[asyncio.Queue[bytes]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watcher: asyncio.Task[None] | None = None

    def publish(self, name: str, data: Any) -> None:
        """Send an event to all readers."""
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._send, _event(name, data))

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the events from now on, as text/event-stream; the first has the newest commit."""
        self._loop = asyncio.get_running_loop()
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._readers.add(queue)
        try:
            yield _event("commit", {"etag": await self._commit()})
            if self._watcher is None or self._watcher.done():
                self._watcher = asyncio.create_task(self._watch())
            while True:
                try:
                    yield await asyncio.wait_for(queue.get(), ALIVE)
                except asyncio.TimeoutError:
                    yield b": alive\n\n"
        finally:
            self._readers.discard(queue)

    def close(self) -> None:
        """Stop looking for commits."""
        if self._watcher is not None:
            self._watcher.cancel()

    async def _watch(self) -> None:
        seen = await self._commit()
        while self._readers:
            await asyncio.sleep(LOOK)
            newest = await self._commit()
            if newest != seen:
                seen = newest
                self._send(_event("commit", {"etag": newest}))

    def _send(self, event: bytes) -> None:
        for queue in self._readers:
            if queue.qsize() >= MOST_WAITING:
                queue.get_nowait()
            queue.put_nowait(event)


def _event(name: str, data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
