"""Which source a path belongs to; the functions by which the other rooms find and read files of any source."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from itertools import groupby, islice
from typing import TYPE_CHECKING

from imgindex.errors import SourceUnavailable, UnreadableImage, UsageError
from imgindex.sources.addresses import bucket_of, is_address, is_web
from imgindex.sources.archives.names import split
from imgindex.sources.archives.source import ArchiveSource
from imgindex.sources.base import MAX_BYTES, Content, FileHash, Found, ReadPart, Source
from imgindex.sources.local import LocalSource
from imgindex.sources.selection import Selection, SkippedFiles
from imgindex.sources.signature import is_image
from imgindex.types import FoundFile, UnnamedFile

if TYPE_CHECKING:
    from imgindex.sources.objects import ObjectSource
    from imgindex.sources.web import WebSource

LOCAL, ARCHIVES = LocalSource(), ArchiveSource()
# Paths that are looked up together: of so many, a store lists most of those that it has only once.
AT_ONCE = 50_000
# Requests at once to sources on other machines; files, and their bytes, that are read before they are asked for.
FAR_READS, FAR_AHEAD, FAR_BYTES = 24, 96, 256 << 20
# Files whose first bytes are read together.
HEADS = 256
# The setting of an index with the buckets that are read without credentials.
ANONYMOUS = "anonymous"


def source_of(path: str) -> Source:
    """Return the source that an absolute path belongs to."""
    if is_address(path):
        return web() if is_web(path) else objects()
    return LOCAL if split(path) is None else ARCHIVES


def is_own_file(path: str) -> bool:
    """Return whether a path is that of a file of its own on this machine, which can be linked to and moved."""
    return source_of(path) is LOCAL


def where(path: str) -> str:
    """Return where a file is, for people: "in an archive"."""
    return source_of(path).where


def read_anonymously(roots: Iterable[str], anonymous: bool = True) -> None:
    """Let requests to the buckets of these addresses be unsigned from now on, or signed again with False.

    Raises UsageError where none of them is in a bucket.
    """
    buckets = {bucket_of(root) for root in roots if is_address(root)} - {""}
    if not buckets:
        raise UsageError(
            "anonymous reading has no effect without the address of a bucket",
            hint="leave it out, or name one: s3://BUCKET",
        )
    objects().read_anonymously(buckets, anonymous)


def settings_of_sources() -> dict[str, str]:
    """Return what an index keeps of how its sources are read; nothing of it is secret."""
    return {ANONYMOUS: " ".join(sorted(objects().anonymous))}


def use_settings(settings: Mapping[str, str]) -> None:
    """Let the sources be read as the settings of an index say."""
    if settings.get(ANONYMOUS):
        objects().read_anonymously(settings[ANONYMOUS].split(), True)


# Most programs read from neither, and what they import takes time.
@cache
def objects() -> ObjectSource:
    """Return the source of objects in stores."""
    from imgindex.sources.objects import ObjectSource

    return ObjectSource()


@cache
def web() -> WebSource:
    """Return the source of files on the web."""
    from imgindex.sources.web import WebSource

    return WebSource()


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
    found = iter(found)
    while part := list(islice(found, HEADS)):
        unnamed = [one.path for one in part if isinstance(one, UnnamedFile)]
        images = dict(zip(unnamed, have_image_content(unnamed), strict=True))
        # A file that was named too is there a second time, as an image whatever it holds.
        yield from (one for one in part if not isinstance(one, UnnamedFile) or images[one.path])


def have_image_content(paths: Iterable[str]) -> Iterator[bool | None]:
    """Yield whether each of some files is an image by its first bytes; None for one that cannot be read."""
    for source, part in groupby(paths, source_of):
        if not source.is_far:
            yield from map(_is_image, map(source.read_head, part))
            continue
        with ThreadPoolExecutor(FAR_READS, thread_name_prefix="imgindex-read") as threads:
            while some := list(islice(part, HEADS)):
                yield from map(_is_image, threads.map(source.read_head, some))


def _is_image(head: bytes | None) -> bool | None:
    return None if head is None else is_image(head)


def read_content(path: str, *, max_bytes: int = MAX_BYTES) -> Content:
    """Return the bytes of a file: see `Source.read`."""
    return source_of(path).read(path, max_bytes=max_bytes)


def read_ahead(files: Iterable[FoundFile]) -> Iterator[tuple[FoundFile, Content | UnreadableImage | None]]:
    """Yield each file, with its content where its source is read fastest in order, or by many requests at once.

    Such a source is read here; the content of other files is None: they may be read in several threads.
    """
    for source, part in groupby(files, lambda file: source_of(file.path)):
        if source.is_far:
            yield from _read_far(source, part)
            continue
        for file in part:
            yield file, _content(source, file) if source.is_sequential(file.path) else None


def read_each(files: Iterable[FoundFile]) -> Iterator[tuple[FoundFile, Content | UnreadableImage]]:
    """Yield each file with its content, or the reason why it cannot be read. Raises SourceUnavailable."""
    for file, content in read_ahead(files):
        yield file, _content(source_of(file.path), file) if content is None else content


def _content(source: Source, file: FoundFile) -> Content | UnreadableImage:
    try:
        return source.read(file.path)
    except SourceUnavailable:
        raise
    except UnreadableImage as error:
        return error


def _read_far(source: Source, files: Iterator[FoundFile]) -> Iterator[tuple[FoundFile, Content | UnreadableImage]]:
    """Yield the files in order, with what was read of them by many requests at once, before they are asked for."""
    in_flight: deque[tuple[FoundFile, Future[Content | UnreadableImage]]] = deque()
    waiting = 0
    with ThreadPoolExecutor(FAR_READS, thread_name_prefix="imgindex-read") as threads:
        try:
            for file in files:
                in_flight.append((file, threads.submit(_content, source, file)))
                waiting += max(file.size, 0)
                while len(in_flight) >= FAR_AHEAD or (waiting > FAR_BYTES and len(in_flight) > 1):
                    done, future = in_flight.popleft()
                    waiting -= max(done.size, 0)
                    yield done, future.result()
            while in_flight:
                done, future = in_flight.popleft()
                yield done, future.result()
        finally:
            for _, future in in_flight:
                future.cancel()


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
        if len(chunk) >= AT_ONCE:
            yield from source.gone(chunk)
            chunk.clear()
    for source, chunk in of_source.items():
        yield from source.gone(chunk)


def is_gone(path: str) -> bool:
    """Return whether there is certainly no file at a path."""
    return any(gone([path]))
