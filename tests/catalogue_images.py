"""Images as the catalogue records them."""

from __future__ import annotations

from imgindex.storage.records import NewImage
from imgindex.types import FoundFile


def image(path: str, content: int = 0, *, size: int = 100, mtime_ns: int = 1) -> NewImage:
    return NewImage(FoundFile(path, size, mtime_ns), bytes([content]) * 32, 640, 480, "PNG")
