"""The states of a file on its way through the pipeline: opened, then prepared, relocated, copied or failed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from imgindex.decoding.process import DecodedImage
from imgindex.sources.base import Content
from imgindex.storage.records import NewImage
from imgindex.types import Failure, FoundFile, Pixels, Vectors


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that was read. The content of a file of this machine is without its data: it is read again to decode it.

    known: whether the catalogue already has its path. picture: where it was decoded at once.
    """

    file: FoundFile
    content: Content
    known: bool = False
    picture: DecodedImage | None = None

    def without_data(self) -> Opened:
        """Return the item without the file's bytes and pixels, to keep it for long."""
        return replace(self, content=replace(self.content, data=b""), picture=None)


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
