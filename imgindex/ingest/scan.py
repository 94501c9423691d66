"""Compares the files on disk with the catalogue by path, size, times and inode.

Only files without an ending are opened, once: their first bytes show whether they are images.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice

from imgindex.decoding.plugins import is_installed, readable_raw_endings
from imgindex.ingest.control import RunControl
from imgindex.ingest.worklist import WorkList
from imgindex.sources.addresses import is_address
from imgindex.sources.registry import AT_ONCE, find_files, gone, have_image_content, is_folder
from imgindex.sources.selection import SkippedFiles
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.paths import RealPaths, under
from imgindex.storage.records import KnownImage, StoredStat, is_same_stat, is_same_version, stored_stat
from imgindex.types import Failure, FoundFile, Item, Progress, UnnamedFile

# Files that are looked up in the catalogue with one query.
CHUNK = 500
# Files that are not images are recorded in transactions of so many.
RECORDED = 10_000


@dataclass(slots=True)
class ScanResult:
    """The files below the roots, each in one of these: files to open, ids of images that are back, failures, counts.

    `new`, `changed` and `checked` count the files to open; those of `checked` have the size and time of an image.
    unrecorded: unchanged files of which the catalogue does not have all numbers. skipped: files below the roots that
    are not images.
    """

    to_open: WorkList = field(default_factory=WorkList)
    unrecorded: WorkList = field(default_factory=WorkList)
    restored: list[int] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    unchanged: int = 0
    failed_before: int = 0
    new: int = 0
    changed: int = 0
    checked: int = 0
    skipped: SkippedFiles = field(default_factory=SkippedFiles)

    @property
    def found(self) -> int:
        return len(self.to_open) + len(self.restored) + len(self.failures) + self.unchanged + self.failed_before

    @property
    def failed(self) -> int:
        return self.failed_before + len(self.failures)

    def close(self) -> None:
        self.to_open.close()
        self.unrecorded.close()


def scan(
    catalogue: Catalogue,
    roots: Sequence[str],
    *,
    exclude: Sequence[str],
    skip: Sequence[str],
    retry_failed: bool,
    rehash: bool,
    archives: bool,
    control: RunControl,
    record_others: Callable[[Sequence[FoundFile]], None] = lambda files: None,
) -> ScanResult:
    """Compare the files below absolute paths with the catalogue; end early, with a part of the result, on `stop`.

    exclude, skip, archives: as `find_files`. retry_failed: open files of known failures, even if they have not changed.
    rehash: open all files. record_others: records files without an ending that are not images, so that the next scan
    need not open them.
    """
    result = ScanResult()
    with contextlib.ExitStack() as stack:
        stack.callback(result.close)  # where an error follows
        ledger = list(catalogue.ledger.failures())
        known_failures = {} if retry_failed or rehash else _failures_to_leave(ledger)
        stored = _StoredPaths(catalogue, ledger)
        others: list[FoundFile] = []
        has_images = catalogue.has_images()
        found = find_files(
            roots,
            exclude=exclude,
            skip=skip,
            further_endings=readable_raw_endings(),
            archives=archives,
            skipped=result.skipped,
        )
        control.on_progress(Progress("scan", 0, 0))
        for chunk in _chunks(found):
            files = [item for item in chunk if isinstance(item, FoundFile)]
            failures = [item for item in chunk if isinstance(item, Failure)]
            result.failures += [replace(one, path=stored.of_failure(one.path)) for one in failures]
            known = catalogue.known([file.path for file in files]) if has_images else {}
            unknown = [
                file
                for file in files
                if isinstance(file, UnnamedFile) and file.path not in known and file.path not in known_failures
            ]
            if unknown:
                not_images = _not_images(catalogue, unknown, others)
                result.skipped.by_ending[""] += len(not_images)
                files = [file for file in files if file.path not in not_images]
            for at, file in enumerate(files):
                if file.path not in known and (path := stored.of_file(file, known)) != file.path:
                    files[at] = replace(file, path=path)
            result.to_open.extend(list(_files_to_open(files, known, known_failures, result, rehash=rehash)))
            control.on_progress(Progress("scan", result.found, 0))
            if len(others) >= RECORDED:
                record_others(others)
                others = []
            if control.stop():
                break
        if others:
            record_others(others)
        stack.pop_all()
    return result


class _StoredPaths:
    """Finds the paths that the catalogue has for files which a scan reaches by other paths: a file is one image."""

    def __init__(self, catalogue: Catalogue, failures: Iterable[Failure]) -> None:
        self._catalogue = catalogue
        self._real_paths, self._has_links = RealPaths(), catalogue.has_real_paths()
        self._failures = {self._place(failure.path): failure.path for failure in failures}

    def _place(self, path: str) -> str:
        """Return the real path of a file; that of the link itself where it leads nowhere."""
        real = self._real_paths.of(path)
        return real if os.path.exists(real) else self._real_paths.of_entry(path)

    def of_failure(self, path: str) -> str:
        """Return the path of the known failure of the same file, else the path itself."""
        return self._failures.get(self._place(path), path) if self._failures else path

    def of_file(self, file: FoundFile, known: dict[str, KnownImage]) -> str:
        """Return the path of the same image or known failure, else the path itself; put the image into `known`."""
        path = file.path
        real = self._real_paths.of(path)
        if file.version is not None and path == real:
            # Only a disk may find a file by another form of its name.
            return path
        # The usual case needs no query.
        if self._has_links or not real.isascii() or self._catalogue.paths.stored_real(path, real) is not None:
            found = self._catalogue.same_file(path, real)
            if found is not None:
                known[found[0]] = found[1]
                return found[0]
        return self._failures.get(real, path)


def _failures_to_leave(failures: Iterable[Failure]) -> dict[str, Failure]:
    """Return by path the failures that are not tried again: all but those whose missing decoder is installed now."""
    is_there = cache(is_installed)
    return {one.path: one for one in failures if not (one.decoder and is_there(one.decoder))}


def _not_images(catalogue: Catalogue, files: Sequence[UnnamedFile], new: list[FoundFile]) -> set[str]:
    """Return the paths of the files that are not images; append those to `new` that the catalogue does not know."""
    paths = catalogue.ledger.other_files(files)
    unknown = [file for file in files if file.path not in paths]
    for file, is_image in zip(unknown, have_image_content([file.path for file in unknown]), strict=True):
        if not is_image:
            paths.add(file.path)
        if is_image is False:
            new.append(file)
    return paths


def _files_to_open(
    files: Iterable[FoundFile],
    known: dict[str, KnownImage],
    known_failures: dict[str, Failure],
    result: ScanResult,
    *,
    rehash: bool,
) -> Iterator[FoundFile]:
    """Yield the files that are new or may have changed; count the others in the result."""
    unrecorded: list[FoundFile] = []
    for file in files:
        image, failure = known.get(file.path), known_failures.get(file.path)
        before = stored_stat(failure) if failure is not None else image.stat if image is not None else None
        # Compared as they are first: most files are unchanged, and clamping their numbers takes time.
        is_same = before == (file.size, file.mtime_ns, file.ctime_ns, file.inode, file.version)
        if before is not None and not is_same and is_same_stat(before, stored_stat(file)):
            is_same = True
            unrecorded.append(file)
        if before is not None and not is_same and is_address(file.path):
            is_same = is_same_version(before, stored_stat(file))
        if failure is not None and is_same:
            result.failed_before += 1
        elif image is None:
            result.new += 1
            yield file
        elif not is_same and (failure is not None or _differs(image.stat, stored_stat(file))):
            result.changed += 1
            yield file
        elif not is_same or rehash:
            result.checked += 1
            yield file
        elif image.present:
            result.unchanged += 1
        else:
            result.restored.append(image.id)
    if unrecorded:
        result.unrecorded.extend(unrecorded)


def _differs(before: StoredStat, now: StoredStat) -> bool:
    """Return whether a file has another size, mtime or version; a new ctime or inode alone is checked by its bytes."""
    return (*before[:2], before[4]) != (*now[:2], now[4])


def find_missing(
    catalogue: Catalogue, roots: Sequence[str], scan: ScanResult, *, unmounted: Collection[str] = ()
) -> tuple[list[int], list[str]]:
    """Return the ids of images that are no longer on disk, and the paths of failures that are resolved.

    Only what lies below the roots is returned. An image is not missing only because this scan excluded it, or because
    its folder cannot be listed, or because it lies below one of `unmounted`, the roots whose disks are not mounted.
    """
    real_paths = RealPaths()
    places = [*roots, *map(real_paths.of, roots)]
    is_below, below_unmounted = under(places), under(unmounted)

    def below(path: str, real: str | None) -> bool:
        return is_below(path) or (real is not None and (is_below(real) or is_below(real_paths.of_entry(path))))

    # The scan has looked at each root itself.
    looked_at = frozenset(roots)
    images = (
        (path, id)
        for id, path, real in catalogue.each_place(places)
        if path not in looked_at and below(path, real) and not below_unmounted(path)
    )
    missing: list[int] = []
    for chunk in _chunks(images, AT_ONCE):
        ids = dict(chunk)
        missing += [ids[path] for path in gone(ids)]
    # Files that fail at the stage "find" are never opened: such a failure is resolved when a scan no longer has it.
    failed_in_scan = {catalogue.paths.stored(failure.path) for failure in scan.failures}
    # A failure to read may have been caused by the disk's absence, and is to be tried again.
    candidates = [
        failure
        for failure in catalogue.ledger.failures()
        if below(failure.path, real_paths.of(failure.path))
        and (failure.stage == "read" or not below_unmounted(failure.path))
    ]
    opened = frozenset(gone(failure.path for failure in candidates if failure.stage != "find"))
    resolved = [
        failure.path
        for failure in candidates
        if (
            catalogue.paths.stored(failure.path) not in failed_in_scan
            if failure.stage == "find"
            # An older version took an archive for an image.
            else failure.path in opened or (not is_address(failure.path) and is_folder(failure.path))
        )
    ]
    return missing, resolved


def _chunks(items: Iterable[Item], size: int = CHUNK) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
