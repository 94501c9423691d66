"""What becomes of a file on its way through `add`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from imgindex.images.fingerprint import Content
from imgindex.storage.records import NewImage
from imgindex.types import Failure, FoundFile, Pixels, Vectors


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that was read: known tells whether its path was in the catalogue before."""

    file: FoundFile
    content: Content
    known: bool

    def without_data(self) -> Opened:
        """Return the same without the file's bytes, to be kept for long."""
        return replace(self, content=replace(self.content, data=b""))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture that is ready for the network."""

    image: NewImage
    pixels: Pixels
    known: bool


@dataclass(frozen=True, slots=True)
class Moved:
    """A content that the index has already, at a path or with times that it did not have before."""

    id: int
    file: FoundFile
    kind: str


@dataclass(frozen=True, slots=True)
class Copied:
    """An image whose content another one has too, with that one's vector."""

    image: NewImage
    vector: Vectors
    known: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """A file that could not be opened, or (then its content is known) not be decoded."""

    failure: Failure
    sha256: bytes = b""


Outcome = Prepared | Moved | Copied | Failed
