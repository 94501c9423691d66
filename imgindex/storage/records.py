"""What the catalogue says of an image to the parts that write, read and compare it."""

from __future__ import annotations

from dataclasses import dataclass

from imgindex.types import FoundFile


@dataclass(frozen=True, slots=True)
class Known:
    """What the catalogue knows of a path: whether it is shown, and the content that its vector was made of."""

    id: int
    size: int
    mtime_ns: int
    sha256: bytes
    present: int


@dataclass(frozen=True, slots=True)
class Location:
    """Where the vector of an image lies, and the CRC32 of its bytes."""

    id: int
    segment: int
    row: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Twin:
    """An image of a given content: where its vector and its file are, and the size of the picture."""

    place: Location
    path: str
    width: int
    height: int
    format: str


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to be recorded together with its vector; `sha256` are the 32 raw bytes."""

    file: FoundFile
    sha256: bytes
    width: int
    height: int
    format: str
