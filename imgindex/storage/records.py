"""Rows of the catalogue as the writer, the readers and the scan use them."""

from __future__ import annotations

from dataclasses import dataclass

from imgindex.types import Failure, FoundFile

# The numbers that SQLite stores as integers.
INT64 = (-(2**63), 2**63 - 1)


def clamp_int64(number: int) -> int:
    """Return the nearest number that SQLite can store as an integer: it has 64 bits with a sign.

    A file system has others: nanoseconds before 1677 or after 2262, and unsigned inodes. A number that is compared with
    a stored one has to be clamped first.
    """
    return number if INT64[0] <= number <= INT64[1] else min(max(number, INT64[0]), INT64[1])


# Size, mtime_ns, ctime_ns, inode and version of a file as the catalogue stores them; None where it is unknown.
StoredStat = tuple[int, int, int | None, int | None, str | None]


def stored_stat(file: FoundFile | Failure) -> StoredStat:
    """Return the numbers of a file as the catalogue stores them."""
    ctime_ns, inode = file.ctime_ns, file.inode
    return (
        clamp_int64(file.size),
        clamp_int64(file.mtime_ns),
        None if ctime_ns is None else clamp_int64(ctime_ns),
        None if inode is None else clamp_int64(inode),
        file.version,
    )


def is_same_stat(before: StoredStat, now: StoredStat) -> bool:
    """Return whether the versions are equal, and all numbers agree that are known of both.

    >>> is_same_stat((5, 7, None, 1, None), (5, 7, 8, 1, None)), is_same_stat((5, 7, 9, 1, None), (5, 7, 8, 1, None))
    (True, False)
    """
    return before == now or (
        before[4] == now[4]
        and all(one == other or one is None or other is None for one, other in zip(before[:4], now[:4], strict=True))
    )


def is_same_version(before: StoredStat, now: StoredStat) -> bool:
    """Return whether a file on another machine has the version and the size that it had; its time says no more.

    A server may not say the size before it sends the file.

    >>> is_same_version((5, 7, None, None, '"a"'), (-1, 9, None, None, '"a"'))
    True
    """
    return now[4] is not None and before[4] == now[4] and now[0] in (before[0], -1)


@dataclass(frozen=True, slots=True)
class KnownImage:
    """An image at a known path: whether it is present, and the content and stat of the file that was embedded."""

    id: int
    sha256: bytes
    present: int
    stat: StoredStat


@dataclass(frozen=True, slots=True)
class Location:
    """The segment and row of an image's vector, and the CRC32 of its bytes."""

    id: int
    segment: int
    row: int
    crc32: int


@dataclass(frozen=True, slots=True)
class SameContent:
    """An image with a given content: the location of its vector, its path, and the size of the picture."""

    location: Location
    path: str
    width: int
    height: int
    format: str
    hashes: bytes | None = None
    blank: int | None = None


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to record together with its vector; `sha256` has the 32 raw bytes.

    hashes, blank: as in `DecodedImage`; None: not computed.
    """

    file: FoundFile
    sha256: bytes
    width: int
    height: int
    format: str
    hashes: bytes | None = None
    blank: int | None = None
