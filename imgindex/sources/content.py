"""Reads a whole image file, with its SHA-256, and the size and times that the file had with exactly these bytes."""

from __future__ import annotations

import hashlib
import os
import stat

from imgindex.errors import UnreadableImage
from imgindex.sources.base import BLOCK, MAX_BYTES, Content, FileHash, megabytes, numbers


def read_content(path: str, *, max_bytes: int = MAX_BYTES) -> Content:
    """Return the whole content of a regular file; never block on other kinds.

    Raises UnreadableImage with the stage "read", also for a file of more than `max_bytes` or that changes meanwhile.
    """
    try:
        # O_NONBLOCK: otherwise opening a FIFO without a writer waits for ever.
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
        raise UnreadableImage(
            f"the file has {megabytes(before.st_size)}, more than the limit of {megabytes(max_bytes)}", stage="read"
        )
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        # One byte more than expected shows that a file grew; the bound guards against a file without an end.
        data = file.read(before.st_size + 1)
    after = os.fstat(descriptor)
    if len(data) != before.st_size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise UnreadableImage("file changed while it was read", stage="read")
    stat_numbers = before.st_size, before.st_mtime_ns, before.st_ctime_ns, before.st_ino
    return Content(data, hashlib.sha256(data).digest(), *stat_numbers)


def file_digest(path: str) -> bytes:
    """Return the SHA-256 (32 raw bytes) of any file, read block by block. Raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.digest()


def hash_file(path: str) -> FileHash:
    """Read a regular file of any size to its end, block by block. Raises UnreadableImage as `read_content`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise UnreadableImage("not a regular file", stage="read")
            digest, left = hashlib.sha256(), before.st_size + 1
            while left > 0 and (block := os.read(descriptor, min(left, BLOCK))):
                digest.update(block)
                left -= len(block)
            if left != 1 or numbers(os.fstat(descriptor)) != numbers(before):
                raise UnreadableImage("file changed while it was read", stage="read")
            return FileHash(digest.digest(), *numbers(before))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error), stage="read") from error
    except ValueError as error:
        raise UnreadableImage(f"not a path: {error}", stage="read") from error
