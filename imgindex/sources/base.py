"""What every kind of source provides: it finds files, reads them, and knows which of them are gone.

A file has a path, whatever its source: text in which slashes separate folders. `registry.py` says which source a path
belongs to.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from imgindex.sources.selection import Selection
from imgindex.types import Failure, FoundFile

MAX_BYTES = 1024**3
BLOCK = 1 << 20
# The number of the device that files on other machines have instead of one.
FAR_DEVICE = -(1 << 62)

Found: TypeAlias = FoundFile | Failure
# Returns so many bytes at an offset, fewer at the end of the file.
ReadPart: TypeAlias = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a file, their SHA-256 (32 raw bytes), and what its source says of the file that had them.

    size, mtime_ns, ctime_ns, inode, version, metadata: as in `FoundFile`.
    """

    data: bytes
    sha256: bytes
    size: int
    mtime_ns: int
    ctime_ns: int | None = None
    inode: int | None = None
    version: str | None = None
    metadata: Mapping[str, str | float] | None = None

    def file_at(self, path: str) -> FoundFile:
        """Return the file that has these bytes."""
        return FoundFile(path, self.size, self.mtime_ns, self.ctime_ns, self.inode, self.version, self.metadata)


@dataclass(frozen=True, slots=True)
class FileHash:
    """The SHA-256 (32 raw bytes) of a file, and the numbers that it had before and after it was read."""

    sha256: bytes
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    def is_of(self, info: os.stat_result) -> bool:
        """Return whether the file with these numbers is the one that was read, and has not changed since."""
        return numbers(info) == (self.device, self.inode, self.size, self.mtime_ns, self.ctime_ns)


class Source(Protocol):
    """A kind of place that files come from. Its methods may be called from several threads.

    A source that does not answer raises an error that ends the run: its files are neither failures nor gone.
    where: where its files are, for people. is_far: whether a read waits for a network, so that many at once take no
    longer than one.
    """

    where: str
    is_far: bool

    def find(self, roots: Iterable[str], selection: Selection) -> Iterator[Found]:
        """Yield the files at and below the roots that may be images, each once, as they are listed; open none.

        What is wrong with one file is a Failure in its place; so is a folder that cannot be listed.
        """
        ...

    def check(self, root: str) -> None:
        """Raise OSError or ValueError unless a root can be listed, or is a file."""
        ...

    def look(self, path: str) -> FoundFile | None:
        """Return a file as a listing describes it now, without reading it; None where there is none."""
        ...

    def gone(self, paths: Iterable[str]) -> Iterator[str]:
        """Yield those paths that certainly have no file any more; none where a listing is incomplete."""
        ...

    def read(self, path: str, *, max_bytes: int = MAX_BYTES) -> Content:
        """Return the bytes of a file with the numbers that belong to exactly these bytes.

        Raises UnreadableImage with the stage "read", also for a file of more than `max_bytes`; SourceUnavailable where
        nothing of the source can be read.
        """
        ...

    def read_head(self, path: str) -> bytes | None:
        """Return the first bytes of a file, by which a format is recognised; None if it cannot be read."""
        ...

    def hash(self, path: str) -> FileHash:
        """Return the SHA-256 of a file of any size. Raises UnreadableImage."""
        ...

    def is_unchanged(self, path: str, read: FileHash) -> bool:
        """Return whether a file is still the one that was hashed, without reading it. Raises OSError."""
        ...

    def parts(self, path: str) -> AbstractContextManager[ReadPart]:
        """Lend a function that returns the bytes of a file at an offset. Raises UnreadableImage, OSError."""
        ...

    def is_folder(self, path: str) -> bool:
        """Return whether a path is that of something that has files, rather than of a file."""
        ...

    def is_sequential(self, path: str) -> bool:
        """Return whether files are read much faster in the order of their listing, one after the other."""
        ...


def far_file_hash(file: FoundFile, sha256: bytes) -> FileHash:
    """Return the SHA-256 of a file on another machine, with numbers that no other file or version has."""
    place = os.fsencode(f"{file.path}\n{file.version}")
    number = int.from_bytes(hashlib.blake2b(place, digest_size=7).digest(), "big")
    return FileHash(sha256, FAR_DEVICE, number, file.size, file.mtime_ns, -1)


def numbers(info: os.stat_result) -> tuple[int, int, int, int, int]:
    """Return device, inode, size, mtime_ns and ctime_ns."""
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def megabytes(count: int) -> str:
    """Return a number of bytes for people."""
    return f"{count / 1e6:,.6g} MB"
