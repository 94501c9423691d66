"""The states of a file on its way through the pipeline: opened, then prepared, relocated, copied or failed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from imgindex.sources.base import Content
from imgindex.storage.records import NewImage
from imgindex.types import Failure, FoundFile, Pixels, Vectors


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that was read; `known`: the catalogue already has its path."""

    file: FoundFile
    content: Content
    known: bool

    def without_data(self) -> Opened:
        """Return the item without the file's bytes, to keep it for long."""
        return replace(self, content=replace(self.content, data=b""))


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image whose pixels are ready for the network."""

    image: NewImage
    pixels: Pixels
    known: bool


@dataclass(frozen=True, slots=True)
class Relocated:
    """An image of the index whose path or times may have changed, but not its content.

    kind: unchanged, restored, renamed. is_recorded: the catalogue has these very numbers of the file.
    """

    id: int
    file: FoundFile
    kind: str
    is_recorded: bool = False


@dataclass(frozen=True, slots=True)
class Copied:
    """An image with the same content as another image of the index, and that image's vector."""

    image: NewImage
    vector: Vectors
    known: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """A file that could not be read, or not be decoded; `sha256` is empty if it was not read."""

    failure: Failure
    sha256: bytes = b""


Outcome = Prepared | Relocated | Copied | Failed
