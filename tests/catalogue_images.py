"""Images as the catalogue records them."""

from __future__ import annotations

from imgindex.storage.catalogue import Catalogue
from imgindex.storage.paths import StoredPath
from imgindex.storage.records import NewImage
from imgindex.types import FoundFile


def image(path: str, content: int = 0, *, size: int = 100, mtime_ns: int = 1) -> NewImage:
    return NewImage(FoundFile(path, size, mtime_ns), bytes([content]) * 32, 640, 480, "PNG")


def record(
    catalogue: Catalogue, new: NewImage, segment: int, row: int, crc32: int, *, real: StoredPath | None = None
) -> None:
    """Record one image: see `Catalogue.put_each`."""
    catalogue.put_each([(new, segment, row, crc32, real)])
