"""The checksums of catalogue.db, in catalogue.db.crc32 beside it: SQLite itself does not notice a flipped bit.

The database file changes only when its write-ahead log is moved into it, which imgindex does itself, under the lock. It
removes the checksums before that and writes them again afterwards. Where they are missing, a writer is at work or died
at that point; until the next writer has checked the catalogue, only SQLite's own checks protect it.

    imgindex catalogue VERSION BYTES CRC32-OF-THE-BLOCKS open CRC32-OF-THIS-LINE

After this line follow the CRC32s of the file's blocks of 16 KiB, each four bytes, the least first. So a writer reads
only the blocks that change: it compares them before that, and computes them again after it. Opening a large catalogue
compares a few blocks; `verify` compares all.

`closed` instead of `open` means that no writer is at work and that the log is empty. A log that exists all the same
belongs to another catalogue, or to another time, and SQLite would read it as this catalogue's own.

VERSION is 2. Version 1 had the CRC32 of the whole file in the line, and no blocks; it is read, and the next writer
replaces it. Every later version has to keep the first three words and end the line with its CRC32, so that a checksum
of a newer version can be distinguished from a damaged one.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from imgindex.errors import FormatTooNew, IndexDamaged
from imgindex.storage import durable, posix_locks

ENDING = ".crc32"
# Small, because a log holds pages from everywhere in the file: one with the pages of 6,000 new images would touch every
# block of 1 MiB, even of a catalogue of ten million images.
BLOCK = 16 << 10
READ_AT_ONCE = 1 << 20
# A catalogue of up to so many bytes, of about 15,000 images, is compared whole whenever it is opened; of a larger one
# the beginning, and so many blocks chosen at random: a flipped bit that no command happens upon is found in time.
SMALL = 4 << 20
BEGINNING, SAMPLES = 4, 60
# A reader that meets a writer's checkpoint reads again; no writer makes so many checkpoints in so short a time.
TRIES = 20
VERSION = 2
LINE = re.compile(rb"imgindex catalogue ([12]) (\d{1,18}) ([0-9a-f]{8}) (open|closed)")
ANY_VERSION = re.compile(rb"imgindex catalogue (\d{1,9}) ")
LONGEST_LINE = 200
# The write-ahead log of SQLite: a header with the size of pages, then frames, each a header and a page. All numbers
# have their first byte first. See https://www.sqlite.org/fileformat2.html#walformat.
LOG_HEADER, FRAME_HEADER = 32, 24


@dataclass(frozen=True, slots=True)
class Checksum:
    """Size in bytes of a file, the CRC32s of its blocks, and whether its log must be empty.

    of_whole: the CRC32 of the whole file instead of those of its blocks, as version 1 had it.
    """

    size: int
    blocks: tuple[int, ...] = ()
    of_whole: int | None = None
    closed: bool = field(default=False, compare=False)


def read(path: str) -> Checksum | None:
    """Return the checksums that are stored beside a catalogue; None where they are missing or cannot be read.

    Raises FormatTooNew for checksums that a newer imgindex wrote.
    """
    try:
        with durable.open_regular(path + ENDING) as file:
            line, _, packed = file.read().partition(b"\n")
    except OSError:
        return None
    text, _, own = line[:LONGEST_LINE].rpartition(b" ")
    if own != b"%08x" % zlib.crc32(text):
        return None
    version = ANY_VERSION.match(text)
    if version is not None and int(version[1]) > VERSION:
        raise FormatTooNew(f"{path + ENDING} has format {int(version[1])}, and this imgindex reads format {VERSION}")
    found = LINE.fullmatch(text)
    if found is None:
        return None
    size, crc32, closed = int(found[2]), int(found[3], 16), found[4] == b"closed"
    if found[1] == b"1":
        return Checksum(size, of_whole=crc32, closed=closed)
    if len(packed) != 4 * _block_count(size) or zlib.crc32(packed) != crc32:
        return None
    return Checksum(size, struct.unpack(f"<{_block_count(size)}I", packed), closed=closed)


def compute(path: str) -> Checksum:
    """Return the checksums that a file has now. Raises OSError."""
    with posix_locks.reading(path) as descriptor:
        size = os.fstat(descriptor).st_size
        return Checksum(size, tuple(_crcs(descriptor, size, range(_block_count(size)))))


def check(path: str, *, whole: bool = False) -> None:
    """Raise IndexDamaged when a catalogue does not have the checksums that are stored beside it.

    whole: compare every block of a large catalogue too.
    """
    check_place(path)
    wanted = read(path)
    for _ in range(TRIES):
        if wanted is None:
            return
        same, foreign = _is_as(path, wanted, whole=whole), wanted.closed and log_size(path) > 0
        if same and not foreign:
            return
        before, wanted = wanted, read(path)
        if wanted == before and (not same or (wanted.closed and log_size(path) > 0)):
            what = f"{path}-wal does not belong to it" if same else "its bytes do not have their checksum"
            raise IndexDamaged(f"{path} is damaged: {what}")
    raise IndexDamaged(f"{path} was changed {TRIES} times while it was read")


def check_place(path: str) -> None:
    """Raise IndexDamaged where a folder has the name of a catalogue's checksums."""
    if os.path.isdir(path + ENDING):
        raise IndexDamaged(f"{path + ENDING} is a folder", hint="move it away: the next `add` or `repair` writes it")


@contextlib.contextmanager
def renewing(path: str) -> Iterator[None]:
    """Let the block move a catalogue's log into it, and renew the checksums; the caller holds the lock.

    If the block raises, the catalogue is left without checksums. Raises IndexDamaged, before the block runs, when a
    block of the file that is going to change does not have its checksum: a new one would hide the damage.
    """
    known, changing = read(path), _blocks_in_log(path)
    if known is not None and known.of_whole is None:
        with posix_locks.reading(path) as descriptor:
            if not _are_as(descriptor, known, [number for number in changing if number < len(known.blocks)]):
                raise IndexDamaged(f"{path} is damaged: its bytes do not have their checksum")
    remove(path)
    yield
    write(path, known, changing)


def remove(path: str) -> None:
    """Remove a catalogue's checksums, durably, before the catalogue changes."""
    with contextlib.suppress(FileNotFoundError):
        durable.remove(path + ENDING)


def write(path: str, known: Checksum | None = None, changed: Iterable[int] = ()) -> None:
    """Write the checksums that a catalogue has now, and whether its log is empty; the caller holds the lock.

    known: those of before the numbered blocks changed, of which only these are read; None to read the whole file.
    """
    closed = log_size(path) == 0
    if not closed:
        # A reader held a part of the log back. SQLite moved the rest into the file without waiting for the disk.
        with posix_locks.reading(path) as descriptor:
            durable.disk.sync(path, descriptor)
    elif os.path.exists(path + "-wal"):
        # SQLite truncates its log without waiting for the disk: after a power failure the old log could be back.
        durable.sync_file(path + "-wal")
    now = compute(path) if known is None or known.of_whole is not None else _updated(path, known, changed)
    _write(path, now, closed=closed)


def mark_open(path: str) -> None:
    """Record that there may be a log from now on; called before anything is written to the log."""
    now = read(path)
    if now is not None and now.closed:
        _write(path, now, closed=False)


def write_when_closed(path: str) -> None:
    """Write the checksums if the log is empty and no checksums record that yet.

    A log that is left may have been moved into the catalogue halfway, and the disk may not have that part.
    """
    now = read(path)
    if (now is None or not now.closed) and not log_size(path):
        write(path)


def log_size(path: str) -> int:
    """Return the size in bytes of a catalogue's write-ahead log; 0 where there is no regular file of that name."""
    with contextlib.suppress(FileNotFoundError):
        info = os.lstat(path + "-wal")
        return info.st_size if stat.S_ISREG(info.st_mode) else 0
    return 0


def exists(path: str) -> bool:
    """Whether a catalogue has a file of checksums, readable or not."""
    return os.path.exists(path + ENDING)


def _write(path: str, checksum: Checksum, *, closed: bool) -> None:
    state = b"closed" if closed else b"open"
    if checksum.of_whole is not None:
        version, crc32, packed = 1, checksum.of_whole, b""
    else:
        packed = struct.pack(f"<{len(checksum.blocks)}I", *checksum.blocks)
        version, crc32 = VERSION, zlib.crc32(packed)
    text = b"imgindex catalogue %d %d %08x %s" % (version, checksum.size, crc32, state)
    durable.write_whole(path + ENDING, b"%s %08x\n%s" % (text, zlib.crc32(text), packed))


def _is_as(path: str, wanted: Checksum, *, whole: bool) -> bool:
    """Return whether a file has its size and its checksums, as far as they are compared."""
    with posix_locks.reading(path) as descriptor:
        if os.fstat(descriptor).st_size != wanted.size:
            return False
        if wanted.of_whole is not None:
            return _crc_of_whole(descriptor) == wanted.of_whole
        count = len(wanted.blocks)
        numbers: Sequence[int] = range(count)
        if not whole and wanted.size > SMALL:
            numbers = [*range(BEGINNING), *sorted(random.sample(range(BEGINNING, count), SAMPLES))]
        return _are_as(descriptor, wanted, numbers)


def _are_as(descriptor: int, wanted: Checksum, numbers: Sequence[int]) -> bool:
    """Return whether the numbered blocks of an open file have their checksums."""
    crcs = _crcs(descriptor, wanted.size, numbers)
    return all(wanted.blocks[number] == crc for number, crc in zip(numbers, crcs, strict=True))


def _updated(path: str, known: Checksum, changed: Iterable[int]) -> Checksum:
    """Return the checksums of a file of which only the numbered blocks, and its length, have changed."""
    with posix_locks.reading(path) as descriptor:
        size = os.fstat(descriptor).st_size
        count, before = _block_count(size), len(known.blocks)
        numbers = {number for number in changed if number < count} | set(range(before, count))
        if size != known.size:
            # The last block may be longer or shorter now.
            numbers |= {min(count, before) - 1} if min(count, before) else set()
        crcs = [*known.blocks[:count], *[0] * (count - before)]
        ordered = sorted(numbers)
        for number, crc in zip(ordered, _crcs(descriptor, size, ordered), strict=True):
            crcs[number] = crc
        return Checksum(size, tuple(crcs))


def _blocks_in_log(path: str) -> list[int]:
    """Return the numbers of the blocks that a catalogue's log has pages of, also of those that are no longer valid."""
    blocks: set[int] = set()
    try:
        with durable.open_regular(path + "-wal") as file:
            header = file.read(LOG_HEADER)
            # A page of 65,536 bytes is written as 1.
            page = int.from_bytes(header[8:12], "big")
            page = 1 << 16 if page == 1 else page
            frames = (log_size(path) - LOG_HEADER) // (FRAME_HEADER + page) if page else 0
            for frame in range(frames):
                number = os.pread(file.fileno(), 4, LOG_HEADER + frame * (FRAME_HEADER + page))
                start = (int.from_bytes(number, "big") - 1) * page
                blocks.update(range(max(start, 0) // BLOCK, (start + page - 1) // BLOCK + 1))
    except FileNotFoundError:
        pass
    return sorted(blocks)


def _crcs(descriptor: int, size: int, numbers: Iterable[int]) -> Iterator[int]:
    """Yield the CRC32s of the numbered blocks of an open file of this size; those of what is there if it is shorter."""
    for number in numbers:
        offset = number * BLOCK
        yield zlib.crc32(os.pread(descriptor, min(BLOCK, size - offset), offset))


def _crc_of_whole(descriptor: int) -> int:
    offset = crc32 = 0
    while data := os.pread(descriptor, READ_AT_ONCE, offset):
        crc32 = zlib.crc32(data, crc32)
        offset += len(data)
    return crc32


def _block_count(size: int) -> int:
    return -(-size // BLOCK)
