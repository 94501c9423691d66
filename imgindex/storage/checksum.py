"""The checksum of catalogue.db, in catalogue.db.crc32 beside it: SQLite itself would not notice a flipped bit.

Outside of a write-ahead log the database changes only when the log is moved into it, which we do ourselves under the
lock. So the checksum is withdrawn before that and written again after it; where there is none, a writer is at work or
has died there, and what SQLite checks by itself must do until the next writer has looked at it.

    imgindex catalogue 1 BYTES CRC32 open CRC32-OF-THIS-LINE

`closed` instead of `open` says that no writer is at work and that the log is empty: one that is there all the same is
another catalogue's, or one of another time, and SQLite would read it as ours.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import zlib
from dataclasses import dataclass, field

from imgindex.errors import IndexDamaged
from imgindex.storage import descriptors, durable

ENDING = ".crc32"
BLOCK = 1 << 20
# A reader that meets a writer's checkpoint looks again; no writer makes so many of them in so short a time.
TRIES = 20
LINE = re.compile(rb"imgindex catalogue 1 (\d{1,18}) ([0-9a-f]{8}) (open|closed)")


@dataclass(frozen=True, slots=True)
class Checksum:
    """Size in bytes and CRC32 of a file, and whether its log must be empty."""

    size: int
    crc32: int
    closed: bool = field(default=False, compare=False)


def stored(path: str) -> Checksum | None:
    """Return the checksum that stands beside a catalogue, None where there is none that can be read."""
    try:
        with durable.open_regular(path + ENDING) as file:
            line = file.read(200)
    except OSError:
        return None
    text, _, own = line.rpartition(b" ")
    found = LINE.fullmatch(text)
    if found is None or own != b"%08x\n" % zlib.crc32(text):
        return None
    return Checksum(int(found[1]), int(found[2], 16), closed=found[3] == b"closed")


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
        if wanted is None:
            return
        same, foreign = computed(path) == wanted, wanted.closed and log_size(path) > 0
        if same and not foreign:
            return
        before, wanted = wanted, stored(path)
        if wanted == before and (not same or (wanted.closed and log_size(path) > 0)):
            what = f"{path}-wal is no log of its" if same else "its bytes do not have their checksum"
            raise IndexDamaged(f"{path} is damaged: {what}")
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
    """Record the checksum that a catalogue has now, and whether its log is empty; nobody else may be changing it."""
    closed = log_size(path) == 0
    if not closed:
        # A reader held a part of the log back: SQLite has moved the rest, and not waited for the disk.
        with descriptors.lent(path) as descriptor:
            durable.disk.sync(path, descriptor)
    elif os.path.exists(path + "-wal"):
        # SQLite cuts its log and does not wait for the disk: after a power failure the old one could be back.
        durable.sync_file(path + "-wal")
    _record(path, computed(path), closed=closed)


def announce(path: str) -> None:
    """Say that there will be a log from now on, before anything is written to it."""
    now = stored(path)
    if now is not None and now.closed:
        _record(path, now, closed=False)


def settle(path: str) -> None:
    """Record the checksum where there is none yet, or none that says that the log is empty, once it is.

    Where a log is left, its move into the catalogue may have failed half-way: what is there now the disk need not have.
    """
    now = stored(path)
    if (now is None or not now.closed) and not log_size(path):
        write(path)


def _record(path: str, checksum: Checksum, *, closed: bool) -> None:
    state = b"closed" if closed else b"open"
    text = b"imgindex catalogue 1 %d %08x %s" % (checksum.size, checksum.crc32, state)
    durable.write_whole(path + ENDING, b"%s %08x\n" % (text, zlib.crc32(text)))


def log_size(path: str) -> int:
    """Size in bytes of a catalogue's write-ahead log; 0 where there is none, or something that is no file."""
    with contextlib.suppress(FileNotFoundError):
        info = os.lstat(path + "-wal")
        return info.st_size if stat.S_ISREG(info.st_mode) else 0
    return 0


def exists(path: str) -> bool:
    """Whether a catalogue has a checksum file, readable or not."""
    return os.path.exists(path + ENDING)
