"""Allows one writer at a time, by an advisory lock that the system releases when its holder dies."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import TracebackType

from imgindex.errors import IndexDamaged, IndexLocked

log = logging.getLogger(__name__)

PAUSE = 0.1  # seconds between two tries: the lock has no queue, and Ctrl-C would not interrupt a blocking call

_held: set[int] = set()


class WriteLock:
    """Holds the lock file `path` inside a `with` block; readers do not need the lock.

    wait: called between two tries; True to go on waiting for the process that has the lock.
    Raises IndexLocked, naming that process, or IndexDamaged where `path` is not a regular file.
    """

    def __init__(self, path: str, *, wait: Callable[[], bool] = lambda: False) -> None:
        self.path = path
        self.wait = wait
        self._descriptor = -1

    def __enter__(self) -> WriteLock:
        if os.path.lexists(self.path) and not os.path.isfile(self.path):
            raise IndexDamaged(
                f"{self.path} is not a regular file", hint="move it away: imgindex creates the lock file again"
            )
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._acquire(descriptor)
            # The line is only for the messages of processes that wait. A torn or outdated line does no harm.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(asdict(Holder(os.getpid(), os.uname().nodename))).encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _held.add(descriptor)
        return self

    def _acquire(self, descriptor: int) -> None:
        reported = ""
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                holder = _describe_holder(os.pread(descriptor, 4096, 0))
                if not self.wait():
                    raise IndexLocked(f"another process is writing to this index{holder}") from error
            if holder != reported:
                log.info("waiting for another process to finish writing%s", holder)
                reported = holder
            time.sleep(PAUSE)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _held.discard(self._descriptor)
        # Closing is not enough: a child that was forked just now shares the lock until it closes its own descriptor.
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that has the lock, as the lock file names it."""

    pid: int
    host: str


def _describe_holder(line: bytes) -> str:
    import msgspec

    try:
        holder = msgspec.json.decode(line, type=Holder)
    except (msgspec.MsgspecError, RecursionError):
        return ""
    host = "".join(char for char in holder.host[:64] if char.isprintable())
    return f" (process {holder.pid} on {host})"


def release_in_child() -> None:
    """Close the lock files in a forked child, which would otherwise hold the lock after its parent has ended."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=release_in_child)
