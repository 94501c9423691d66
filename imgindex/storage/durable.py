"""Every change that the store makes to the disk goes through here: written, synced, and only then relied upon.

`disk` is the one seam. A test puts another `Disk` in its place, and can so stop the store before, in the middle of and
after each step, make any of them fail, and know what was not yet synced.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
from typing import BinaryIO, cast


class Disk:
    """The steps that change a disk; `path` says of which file, for whoever looks on."""

    def open(self, path: str, *, new: bool = False) -> int:
        """Open a file to write to it, made if it is missing, or if it must be `new`; return its descriptor."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_EXCL if new else 0), 0o666)

    def write(self, path: str, descriptor: int, data: memoryview, offset: int) -> int:
        """Write some of the data at an offset; return how many bytes."""
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
        connection.execute(statement)


disk = Disk()


def append(path: str, offset: int, data: bytes) -> None:
    """Write data at offset into a file (made if missing) and return once the disk has it, its name included."""
    descriptor = disk.open(path)
    try:
        write(path, descriptor, data, offset)
        disk.sync(path, descriptor)
    finally:
        os.close(descriptor)
    if offset == 0:  # also where the file is there: who died here may have made it, and not synced its name
        sync_folder(os.path.dirname(path))


def write(path: str, descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of the data at an offset of an open file; the disk need not have it yet."""
    view = memoryview(data)
    while view:
        written = disk.write(path, descriptor, view, offset)
        view, offset = view[written:], offset + written


def cut(path: str, length: int) -> None:
    """Shorten a file to `length` bytes and return once the disk has it."""
    descriptor = disk.open(path)
    try:
        disk.truncate(path, descriptor, length)
        disk.sync(path, descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: str, data: bytes) -> None:
    """Put a file in the place of what has its name; whoever looks sees the old one or the new one, whole."""
    temporary = f"{path}.new"
    descriptor = disk.open(temporary)
    try:
        disk.truncate(temporary, descriptor, 0)
        write(temporary, descriptor, data, 0)
    finally:
        os.close(descriptor)
    replace(temporary, path)


def sync_file(path: str) -> None:
    """Return once the disk has what was written to a file that is there, or how it was cut."""
    descriptor = disk.open(path)
    try:
        disk.sync(path, descriptor)
    finally:
        os.close(descriptor)


def remove(path: str) -> None:
    """Remove a file and return once the disk has forgotten its name."""
    disk.unlink(path)
    sync_folder(os.path.dirname(path))


def replace(path: str, target: str) -> None:
    """Give a file another name, in the place of what has it, and return once the disk has its bytes and its name."""
    sync_file(path)
    disk.rename(path, target)
    sync_folder(os.path.dirname(target))


def make_folder(path: str) -> None:
    """Make a folder, and those above it that are missing, and return once the disk has their names."""
    parent = os.path.dirname(path)
    if parent and not os.path.isdir(parent):
        make_folder(parent)
    disk.make_folder(path)
    sync_folder(parent)


def open_regular(path: str) -> BinaryIO:
    """Open a file for reading. Raises OSError as `regular` does."""
    return cast(BinaryIO, os.fdopen(regular(path), "rb", buffering=0))


def regular(path: str) -> int:
    """Return the descriptor of a file to read, without waiting for a writer should it be a pipe.

    Raises OSError, also for what is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor


def sync_folder(path: str) -> None:
    """Return once the disk has the names in this folder."""
    disk.sync_folder(path)
