"""Reads a whole image file, with its SHA-256 and the size and time that belong to exactly these bytes."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass

from imgindex.errors import UnreadableImage

MAX_BYTES = 1024**3


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a file: `sha256` is 32 raw bytes, `size` and `mtime_ns` are what the opened file said of itself."""

    data: bytes
    sha256: bytes
    size: int
    mtime_ns: int


def read_content(path: str, *, max_bytes: int = MAX_BYTES) -> Content:
    """Return the whole content of a regular file, or raise UnreadableImage at the stage "read"; never block."""
    try:
        # O_NONBLOCK: to open a FIFO that nobody writes to would otherwise wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return _read(descriptor, max_bytes)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error), stage="read") from error
    except ValueError as error:
        raise UnreadableImage(f"not a path: {error}", stage="read") from error


def _read(descriptor: int, max_bytes: int) -> Content:
    before = os.fstat(descriptor)
    if not stat.S_ISREG(before.st_mode):
        raise UnreadableImage("not a regular file", stage="read")
    if before.st_size == 0:
        raise UnreadableImage("file is empty", stage="read")
    if before.st_size > max_bytes:
        raise UnreadableImage(f"{before.st_size:,} bytes, more than the limit of {max_bytes:,}", stage="read")
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        # One byte more than expected shows a file that grew, and bounds what a file that never ends can cost.
        data = file.read(before.st_size + 1)
    after = os.fstat(descriptor)
    if len(data) != before.st_size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise UnreadableImage("file changed while it was read", stage="read")
    return Content(data, hashlib.sha256(data).digest(), before.st_size, before.st_mtime_ns)
