"""The checksum of catalogue.db, in the file catalogue.crc32 beside it: SQLite itself would not notice a flipped bit.

Outside of a write-ahead log the database changes only when the log is moved into it, which we do ourselves under the
lock. So the checksum is withdrawn before that and written again after it; where there is none, a writer is at work or
has died there, and what SQLite checks by itself must do until the next writer has looked at it.

    imgindex catalogue 1 BYTES CRC32 CRC32-OF-THIS-LINE
"""

from __future__ import annotations

import contextlib
import os
import zlib
from dataclasses import dataclass

from imgindex.errors import IndexDamaged
from imgindex.storage import descriptors, durable

ENDING = ".crc32"
BLOCK = 1 << 20
# A reader that meets a writer's checkpoint looks again; no writer makes so many of them in so short a time.
TRIES = 20


@dataclass(frozen=True, slots=True)
class Checksum:
    """Size in bytes and CRC32 of a file."""

    size: int
    crc32: int


def stored(path: str) -> Checksum | None:
    """Return the checksum that stands beside a catalogue, None where there is none that can be read."""
    try:
        with durable.open_regular(path + ENDING) as file:
            line = file.read(200)
    except OSError:
        return None
    text, _, own = line.rpartition(b" ")
    if own != b"%08x\n" % zlib.crc32(text):
        return None
    try:
        name, what, version, size, crc32 = text.split(b" ")
        return (
            Checksum(int(size), int(crc32, 16)) if (name, what, version) == (b"imgindex", b"catalogue", b"1") else None
        )
    except ValueError:
        return None


def computed(path: str) -> Checksum:
    """Return the checksum that a file has now. Raises OSError."""
    size = crc32 = 0
    with descriptors.lent(path) as descriptor:
        while block := os.pread(descriptor, BLOCK, size):
            crc32 = zlib.crc32(block, crc32)
            size += len(block)
    return Checksum(size, crc32)


def check(path: str) -> None:
    """Raise IndexDamaged when a catalogue does not have the checksum that stands beside it."""
    check_place(path)
    wanted = stored(path)
    for _ in range(TRIES):
        if wanted is None or computed(path) == wanted:
            return
        before, wanted = wanted, stored(path)
        if wanted == before:
            raise IndexDamaged(f"{path} is damaged: its bytes do not have their checksum")
    raise IndexDamaged(f"{path} does not keep still while it is read")


def check_place(path: str) -> None:
    """Raise IndexDamaged where a folder is in the place of a catalogue's checksum."""
    if os.path.isdir(path + ENDING):
        raise IndexDamaged(f"{path + ENDING} is a folder", hint="move it away: the next `add` or `repair` writes it")


def withdraw(path: str) -> None:
    """Take a catalogue's checksum away, durably, before the catalogue changes."""
    with contextlib.suppress(FileNotFoundError):
        durable.remove(path + ENDING)


def write(path: str) -> None:
    """Record the checksum that a catalogue has now; nobody else may be changing it."""
    now = computed(path)
    text = b"imgindex catalogue 1 %d %08x" % (now.size, now.crc32)
    durable.write_whole(path + ENDING, b"%s %08x\n" % (text, zlib.crc32(text)))


def exists(path: str) -> bool:
    """Whether a catalogue has a checksum file, readable or not."""
    return os.path.exists(path + ENDING)
