"""One writer at a time: an advisory lock that the system lets go of when its holder dies."""

from __future__ import annotations

import fcntl
import json
import os
from types import TracebackType

from imgindex.errors import IndexLocked


class WriteLock:
    """Holds `path` locked inside a `with` block; readers never look at it.

    Raises IndexLocked, naming the holder, when another process has it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = -1

    def __enter__(self) -> WriteLock:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(os.pread(descriptor, 4096, 0))
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                raise
            raise IndexLocked(f"another process is writing to this index{holder}") from error
        # Only told to whoever waits; what counts is the lock, so a torn or stale line does no harm.
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": os.uname().nodename}).encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def _holder(line: bytes) -> str:
    try:
        said = json.loads(line)
        return f" (process {said['pid']} on {said['host']})"
    except (ValueError, KeyError, TypeError):
        return ""
