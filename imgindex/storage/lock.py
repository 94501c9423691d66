"""One writer at a time: an advisory lock that the system lets go of when its holder dies."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Callable
from types import TracebackType

from imgindex.errors import IndexDamaged, IndexLocked

log = logging.getLogger(__name__)

PAUSE = 0.1  # seconds between two tries: a lock has no queue, and a blocking call would not hear of Ctrl-C

_held: set[int] = set()


class WriteLock:
    """Holds `path` locked inside a `with` block; readers never look at it.

    wait: asked between tries whether to go on waiting for another holder.
    Raises IndexLocked, naming the holder, when another process has it, IndexDamaged where no file can be locked.
    """

    def __init__(self, path: str, *, wait: Callable[[], bool] = lambda: False) -> None:
        self.path = path
        self.wait = wait
        self._descriptor = -1

    def __enter__(self) -> WriteLock:
        if os.path.lexists(self.path) and not os.path.isfile(self.path):
            raise IndexDamaged(f"{self.path} is no regular file", hint="move it away: it is made anew")
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._acquire(descriptor)
            # Only told to whoever waits; what counts is the lock, so a torn or stale line does no harm.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": os.uname().nodename}).encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _held.add(descriptor)
        return self

    def _acquire(self, descriptor: int) -> None:
        told = ""
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                holder = _holder(os.pread(descriptor, 4096, 0))
                if not self.wait():
                    raise IndexLocked(f"another process is writing to this index{holder}") from error
            if holder != told:
                log.info("waiting for another process to finish writing%s", holder)
                told = holder
            time.sleep(PAUSE)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _held.discard(self._descriptor)
        # Not by closing alone: a child that was forked just now may have the lock as well until it has closed its own.
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)


def _holder(line: bytes) -> str:
    try:
        said = json.loads(line)
        host = "".join(char for char in str(said["host"])[:64] if char.isprintable())
        return f" (process {int(said['pid'])} on {host})"
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _let_go() -> None:
    """A forked child has its parent's lock too, and would hold it after the parent has ended."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
