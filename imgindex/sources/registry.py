"""Which source a path belongs to; the functions by which the other rooms find and read files of any source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

from imgindex.sources.base import MAX_BYTES, Content, FileHash, Found, Source
from imgindex.sources.local import LocalSource
from imgindex.sources.selection import Selection, SkippedFiles
from imgindex.sources.signature import is_image
from imgindex.types import FoundFile, UnnamedFile

LOCAL = LocalSource()
# Paths that are looked up together.
CHUNK = 500


def source_of(path: str) -> Source:
    """Return the source that an absolute path belongs to."""
    return LOCAL


def find_files(
    roots: Iterable[str],
    *,
    exclude: Sequence[str] = (),
    skip: Sequence[str] = (),
    further_endings: AbstractSet[str] = frozenset(),
    skipped: SkippedFiles | None = None,
) -> Iterator[Found]:
    """Yield what the sources of the roots find, each file once; the parameters are those of `Selection`.

    skipped: counts what is passed over.
    """
    selection = Selection(exclude=exclude, skip=skip, further_endings=further_endings, skipped=skipped)
    yield from LOCAL.find(roots, selection)


def only_images(found: Iterable[Found]) -> Iterator[Found]:
    """Yield what `find_files` yields, but files without an ending only if their first bytes are those of an image."""
    for one in found:
        if not isinstance(one, UnnamedFile) or has_image_content(one.path):
            yield one


def has_image_content(path: str) -> bool | None:
    """Return whether a file is an image by its first bytes; None if it cannot be read."""
    head = source_of(path).read_head(path)
    return None if head is None else is_image(head)


def read_content(path: str, *, max_bytes: int = MAX_BYTES) -> Content:
    """Return the bytes of a file: see `Source.read`."""
    return source_of(path).read(path, max_bytes=max_bytes)


def hash_file(path: str) -> FileHash:
    """Return the SHA-256 of a file of any size: see `Source.hash`."""
    return source_of(path).hash(path)


def look(path: str) -> FoundFile | None:
    """Return a file as it is now, without reading it: see `Source.look`."""
    return source_of(path).look(path)


def check_root(root: str) -> None:
    """Raise OSError or ValueError unless a root can be listed, or is a file."""
    source_of(root).check(root)


def gone(paths: Iterable[str]) -> Iterator[str]:
    """Yield those of some paths, in any order, that certainly have no file any more: see `Source.gone`."""
    of_source: dict[Source, list[str]] = {}
    for path in paths:
        source = source_of(path)
        chunk = of_source.setdefault(source, [])
        chunk.append(path)
        if len(chunk) >= CHUNK:
            yield from source.gone(chunk)
            chunk.clear()
    for source, chunk in of_source.items():
        yield from source.gone(chunk)


def is_gone(path: str) -> bool:
    """Return whether there is certainly no file at a path."""
    return any(gone([path]))
