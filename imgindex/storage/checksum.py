"""The checksum of catalogue.db, in catalogue.db.crc32 beside it: SQLite itself does not notice a flipped bit.

The database file changes only when its write-ahead log is moved into it, which imgindex does itself, under the lock. It
removes the checksum before that and writes it again afterwards. Where the checksum is missing, a writer is at work or
died at that point; until the next writer has checked the catalogue, only SQLite's own checks protect it.

    imgindex catalogue VERSION BYTES CRC32 open CRC32-OF-THIS-LINE

`closed` instead of `open` means that no writer is at work and that the log is empty. A log that exists all the same
belongs to another catalogue, or to another time, and SQLite would read it as this catalogue's own.

VERSION is 1. Every later version has to keep the first three words and end with the CRC32 of the line, so that a
checksum of a newer version can be distinguished from a damaged one.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import zlib
from dataclasses import dataclass, field

from imgindex.errors import FormatTooNew, IndexDamaged
from imgindex.storage import durable, posix_locks

ENDING = ".crc32"
BLOCK = 1 << 20
# A reader that meets a writer's checkpoint reads again; no writer makes so many checkpoints in so short a time.
TRIES = 20
VERSION = 1
LINE = re.compile(rb"imgindex catalogue 1 (\d{1,18}) ([0-9a-f]{8}) (open|closed)")
ANY_VERSION = re.compile(rb"imgindex catalogue (\d{1,9}) ")


@dataclass(frozen=True, slots=True)
class Checksum:
    """Size in bytes and CRC32 of a file, and whether its log must be empty."""

    size: int
    crc32: int
    closed: bool = field(default=False, compare=False)


def read(path: str) -> Checksum | None:
    """Return the checksum that is stored beside a catalogue; None where it is missing or cannot be read.

    Raises FormatTooNew for a checksum that a newer imgindex wrote.
    """
    try:
        with durable.open_regular(path + ENDING) as file:
            line = file.read(200)
    except OSError:
        return None
    text, _, own = line.rpartition(b" ")
    if own != b"%08x\n" % zlib.crc32(text):
        return None
    version = ANY_VERSION.match(text)
    if version is not None and int(version[1]) > VERSION:
        raise FormatTooNew(f"{path + ENDING} has format {int(version[1])}, and this imgindex reads format {VERSION}")
    found = LINE.fullmatch(text)
    return None if found is None else Checksum(int(found[1]), int(found[2], 16), closed=found[3] == b"closed")


def compute(path: str) -> Checksum:
    """Return the checksum that a file has now. Raises OSError."""
    size = crc32 = 0
    with posix_locks.reading(path) as descriptor:
        while block := os.pread(descriptor, BLOCK, size):
            crc32 = zlib.crc32(block, crc32)
            size += len(block)
    return Checksum(size, crc32)


def check(path: str) -> None:
    """Raise IndexDamaged when a catalogue does not have the checksum that is stored beside it."""
    check_place(path)
    wanted = read(path)
    for _ in range(TRIES):
        if wanted is None:
            return
        same, foreign = compute(path) == wanted, wanted.closed and log_size(path) > 0
        if same and not foreign:
            return
        before, wanted = wanted, read(path)
        if wanted == before and (not same or (wanted.closed and log_size(path) > 0)):
            what = f"{path}-wal does not belong to it" if same else "its bytes do not have their checksum"
            raise IndexDamaged(f"{path} is damaged: {what}")
    raise IndexDamaged(f"{path} was changed {TRIES} times while it was read")


def check_place(path: str) -> None:
    """Raise IndexDamaged where a folder has the name of a catalogue's checksum."""
    if os.path.isdir(path + ENDING):
        raise IndexDamaged(f"{path + ENDING} is a folder", hint="move it away: the next `add` or `repair` writes it")


def remove(path: str) -> None:
    """Remove a catalogue's checksum, durably, before the catalogue changes."""
    with contextlib.suppress(FileNotFoundError):
        durable.remove(path + ENDING)


def write(path: str) -> None:
    """Write the checksum that a catalogue has now, and whether its log is empty; the caller holds the lock."""
    closed = log_size(path) == 0
    if not closed:
        # A reader held a part of the log back. SQLite moved the rest into the file without waiting for the disk.
        with posix_locks.reading(path) as descriptor:
            durable.disk.sync(path, descriptor)
    elif os.path.exists(path + "-wal"):
        # SQLite truncates its log without waiting for the disk: after a power failure the old log could be back.
        durable.sync_file(path + "-wal")
    _write(path, compute(path), closed=closed)


def mark_open(path: str) -> None:
    """Record that there may be a log from now on; called before anything is written to the log."""
    now = read(path)
    if now is not None and now.closed:
        _write(path, now, closed=False)


def write_when_closed(path: str) -> None:
    """Write the checksum if the log is empty and no checksum records that yet.

    A log that is left may have been moved into the catalogue halfway, and the disk may not have that part.
    """
    now = read(path)
    if (now is None or not now.closed) and not log_size(path):
        write(path)


def _write(path: str, checksum: Checksum, *, closed: bool) -> None:
    state = b"closed" if closed else b"open"
    text = b"imgindex catalogue %d %d %08x %s" % (VERSION, checksum.size, checksum.crc32, state)
    durable.write_whole(path + ENDING, b"%s %08x\n" % (text, zlib.crc32(text)))


def log_size(path: str) -> int:
    """Return the size in bytes of a catalogue's write-ahead log; 0 where there is no regular file of that name."""
    with contextlib.suppress(FileNotFoundError):
        info = os.lstat(path + "-wal")
        return info.st_size if stat.S_ISREG(info.st_mode) else 0
    return 0


def exists(path: str) -> bool:
    """Whether a catalogue has a checksum file, readable or not."""
    return os.path.exists(path + ENDING)
