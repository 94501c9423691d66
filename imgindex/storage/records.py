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
    return min(max(number, INT64[0]), INT64[1])


def stored_stat(file: FoundFile | Failure) -> tuple[int, int]:
    """Return size and mtime_ns of a file as the catalogue stores them."""
    return clamp_int64(file.size), clamp_int64(file.mtime_ns)


@dataclass(frozen=True, slots=True)
class KnownImage:
    """An image at a known path: whether it is present, and the content that its vector was made from."""

    id: int
    size: int
    mtime_ns: int
    sha256: bytes
    present: int


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

    hashes: see `perceptual_hash.hashes`; blank: whether the picture has one colour, or nearly so; None: not computed.
    """

    file: FoundFile
    sha256: bytes
    width: int
    height: int
    format: str
    hashes: bytes | None = None
    blank: int | None = None
