"""Rows of the catalogue as the writer, the readers and the scan use them."""

from __future__ import annotations

from dataclasses import dataclass

from imgindex.types import FoundFile


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


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to record together with its vector; `sha256` has the 32 raw bytes."""

    file: FoundFile
    sha256: bytes
    width: int
    height: int
    format: str
