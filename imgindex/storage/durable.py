"""Every change that the store makes to files goes through here: written, synced, and only then relied upon."""

from __future__ import annotations

import os


def append(path: str, offset: int, data: bytes) -> None:
    """Write data at offset into a file (made if missing) and return once the disk has it, its name included."""
    new = not os.path.exists(path)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        sync_folder(os.path.dirname(path))


def cut(path: str, length: int) -> None:
    """Shorten a file to `length` bytes and return once the disk has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, length)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: str) -> None:
    """Remove a file and return once the disk has forgotten its name."""
    os.unlink(path)
    sync_folder(os.path.dirname(path))


def replace(path: str, target: str) -> None:
    """Give a file another name, in the place of what has it, and return once the disk has its bytes and its name."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(path, target)
    sync_folder(os.path.dirname(target))


def make_folder(path: str) -> None:
    """Make a folder (its parent exists) and return once the disk has its name."""
    os.makedirs(path, exist_ok=True)
    sync_folder(os.path.dirname(path))


def sync_folder(path: str) -> None:
    """Return once the disk has the names in this folder."""
    descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
