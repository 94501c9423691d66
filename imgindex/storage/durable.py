"""Writes to the disk and waits until the disk has the data: every change that the store makes goes through this file.

`disk` is the only object that changes files. A test puts another `Disk` in its place: it can stop the store before,
during and after each step, make a step fail, and list what was not yet synced.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator
from typing import BinaryIO, cast


class Disk:
    """The steps that change a disk. `path` names the file for a subclass that records or fails the steps."""

    def open(self, path: str) -> int:
        """Open a file for writing, create it if it is missing, and return its descriptor."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def write(self, path: str, descriptor: int, data: memoryview, offset: int) -> int:
        """Write data at an offset, and return how many bytes were written, which may be fewer than there are."""
        return os.pwrite(descriptor, data, offset)

    def truncate(self, path: str, descriptor: int, length: int) -> None:
        os.ftruncate(descriptor, length)

    def sync(self, path: str, descriptor: int) -> None:
        """Return once the disk has what was written."""
        if hasattr(fcntl, "F_FULLFSYNC"):  # on macOS fsync stops at the drive's cache
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fsync(descriptor)

    def rename(self, path: str, target: str) -> None:
        os.replace(path, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def make_folder(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def sync_folder(self, path: str) -> None:
        """Return once the disk has the names in this folder."""
        descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def execute(self, path: str, connection: sqlite3.Connection, statement: str) -> None:
        """Let SQLite change its files: a commit, a checkpoint or a vacuum."""
        # To its end: SQLite may report after the first row of an answer that a write failed.
        connection.execute(statement).fetchall()


disk = Disk()


def append(path: str, offset: int, data: bytes) -> None:
    """Write data at an offset of a file, created if it is missing, and return once the disk has it and its name."""
    descriptor = disk.open(path)
    try:
        write(path, descriptor, data, offset)
        disk.sync(path, descriptor)
    finally:
        os.close(descriptor)
    if offset == 0:  # even if the file exists: a process that died may have created it without syncing its name
        sync_folder(os.path.dirname(path))


def write(path: str, descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of the data at an offset of an open file; the disk may not have it yet on return."""
    view = memoryview(data)
    while view:
        written = disk.write(path, descriptor, view, offset)
        view, offset = view[written:], offset + written


def truncate(path: str, length: int) -> None:
    """Shorten a file to `length` bytes, and return once the disk has the change."""
    descriptor = disk.open(path)
    try:
        disk.truncate(path, descriptor, length)
        disk.sync(path, descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path: str, *, temporary: str) -> Iterator[int]:
    """Lend the descriptor of an empty file that replaces `path` at the end of the block, once the disk has its bytes.

    A reader sees the old file or the new one, whole. If the block raises, the old file stays and `temporary` is
    removed. `temporary` is a path in the same folder; a file that a process left there when it died is overwritten.
    """
    descriptor = disk.open(temporary)
    try:
        try:
            disk.truncate(temporary, descriptor, 0)
            yield descriptor
        finally:
            os.close(descriptor)
        replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            remove(temporary)
        raise


def write_whole(path: str, data: bytes) -> None:
    """Replace a file, or create it, so that a reader sees the old content or the new one, whole."""
    temporary = f"{path}.new"
    with replacing(path, temporary=temporary) as descriptor:
        write(temporary, descriptor, data, 0)


def sync_file(path: str) -> None:
    """Return once the disk has the content and the length of a file."""
    descriptor = disk.open(path)
    try:
        disk.sync(path, descriptor)
    finally:
        os.close(descriptor)


def remove(path: str) -> None:
    """Remove a file, and return once the disk has the change."""
    disk.unlink(path)
    sync_folder(os.path.dirname(path))


def replace(path: str, target: str) -> None:
    """Rename a file over `target`, and return once the disk has its bytes and its name."""
    sync_file(path)
    disk.rename(path, target)
    sync_folder(os.path.dirname(target))


def make_folder(path: str) -> None:
    """Create a folder and its missing parents, and return once the disk has their names."""
    parent = os.path.dirname(path)
    if parent and not os.path.isdir(parent):
        make_folder(parent)
    disk.make_folder(path)
    sync_folder(parent)


def open_regular(path: str) -> BinaryIO:
    """Open a file for reading. Raises OSError as `open_descriptor` does."""
    return cast(BinaryIO, os.fdopen(open_descriptor(path), "rb", buffering=0))


def open_descriptor(path: str) -> int:
    """Return a descriptor to read a regular file with; a pipe is not waited for.

    Raises OSError, also for anything that is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor


def sync_folder(path: str) -> None:
    """Return once the disk has the names in this folder."""
    disk.sync_folder(path)
