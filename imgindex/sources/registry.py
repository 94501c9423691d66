"""Which source a path belongs to; the functions by which the other rooms find and read files of any source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager

from imgindex.errors import SourceUnavailable, UnreadableImage
from imgindex.sources.archives.names import split
from imgindex.sources.archives.source import ArchiveSource
from imgindex.sources.base import MAX_BYTES, Content, FileHash, Found, ReadPart, Source
from imgindex.sources.local import LocalSource
from imgindex.sources.selection import Selection, SkippedFiles
from imgindex.sources.signature import is_image
from imgindex.types import FoundFile, UnnamedFile

LOCAL, ARCHIVES = LocalSource(), ArchiveSource()
# Paths that are looked up together.
CHUNK = 500


def source_of(path: str) -> Source:
    """Return the source that an absolute path belongs to."""
    return LOCAL if split(path) is None else ARCHIVES


def is_own_file(path: str) -> bool:
    """Return whether a path is that of a file of its own on this machine, which can be linked to and moved."""
    return source_of(path) is LOCAL


def find_files(
    roots: Iterable[str],
    *,
    exclude: Sequence[str] = (),
    skip: Sequence[str] = (),
    further_endings: AbstractSet[str] = frozenset(),
    archives: bool = False,
    skipped: SkippedFiles | None = None,
) -> Iterator[Found]:
    """Yield what the sources of the roots find, each file once; the parameters are those of `Selection`.

    skipped: counts what is passed over.
    """
    selection = Selection(
        exclude=exclude, skip=skip, further_endings=further_endings, archives=archives, skipped=skipped
    )
    of_others: dict[Source, list[str]] = {}

    def of_this_machine() -> Iterator[str]:
        for root in roots:
            source = source_of(root)
            if source is LOCAL:
                yield root
            else:
                of_others.setdefault(source, []).append(root)

    yield from LOCAL.find(of_this_machine(), selection)
    if selection.found_archives:
        of_others.setdefault(ARCHIVES, []).extend(selection.found_archives)
    for source, others in of_others.items():
        yield from source.find(others, selection)


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


def read_ahead(files: Iterable[FoundFile]) -> Iterator[tuple[FoundFile, Content | UnreadableImage | None]]:
    """Yield each file, with its content where its source is read fastest in order; None for others, to be read later.

    Such a source is read here, one file after the other; the others may be read in several threads.
    """
    for file in files:
        source = source_of(file.path)
        if not source.is_sequential(file.path):
            yield file, None
            continue
        try:
            yield file, source.read(file.path)
        except SourceUnavailable:
            raise
        except UnreadableImage as error:
            yield file, error


def hash_file(path: str) -> FileHash:
    """Return the SHA-256 of a file of any size: see `Source.hash`."""
    return source_of(path).hash(path)


def is_unchanged(path: str, read: FileHash) -> bool:
    """Return whether a file is still the one that was hashed: see `Source.is_unchanged`."""
    return source_of(path).is_unchanged(path, read)


def parts(path: str) -> AbstractContextManager[ReadPart]:
    """Lend a function that returns the bytes of a file at an offset: see `Source.parts`."""
    return source_of(path).parts(path)


def exists(path: str) -> bool:
    """Return whether there is a file or a folder at a path."""
    source = source_of(path)
    return source.look(path) is not None or source.is_folder(path)


def is_folder(path: str) -> bool:
    """Return whether a path is that of a folder, of an archive, or of a folder in an archive."""
    return source_of(path).is_folder(path)


def look(path: str) -> FoundFile | None:
    """Return a file as it is now, without reading it: see `Source.look`."""
    return source_of(path).look(path)


def check_root(root: str) -> None:
    """Raise OSError or ValueError unless a root can be listed, or is a file."""
    source_of(root).check(root)


def gone(paths: Iterable[str]) -> Iterator[str]:
    """Yield those of some paths, in any order, that certainly have no file any more: see `Source.gone`."""
    of_source: dict[Source, list[str]] = {}
    # What is a file of this machine is asked for most, and costs no more than that question.
    for path in LOCAL.gone(paths):
        source = source_of(path)
        if source is LOCAL:
            yield path
            continue
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
