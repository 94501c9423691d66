"""What changed on disk since the last run, told without opening a file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from imgindex.errors import PathNotFound, UsageError
from imgindex.images.find import find
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.paths import under
from imgindex.storage.records import Known
from imgindex.storage.worklist import WorkList
from imgindex.types import Failure, FoundFile, OnProgress, Progress

CHUNK = 500


@dataclass(slots=True)
class Survey:
    """What a scan of the roots found: files to open, images to show again, and how many of each other kind."""

    work: WorkList = field(default_factory=WorkList)
    restored: list[int] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    unchanged: int = 0
    failed_before: int = 0
    new: int = 0
    changed: int = 0

    @property
    def found(self) -> int:
        return len(self.work) + len(self.restored) + len(self.failures) + self.unchanged + self.failed_before

    def close(self) -> None:
        self.work.close()


@dataclass(frozen=True, slots=True)
class Scope:
    """What one `add` looks at: absolute roots, globs to leave out, and whether known failures are tried again."""

    roots: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    retry_failed: bool = False


@dataclass(frozen=True, slots=True)
class Watch:
    """How a caller follows a run and ends it early: told of progress, asked whether to stop after each batch.

    wait: whether to wait for another writer to finish.
    """

    on_progress: OnProgress = lambda progress: None
    stop: Callable[[], bool] = lambda: False
    wait: bool = False

    def go_on_waiting(self) -> bool:
        """Whether to wait for another writer. Raises KeyboardInterrupt when told to stop meanwhile."""
        if self.wait and self.stop():
            raise KeyboardInterrupt
        return self.wait


def absolute(path: str | os.PathLike[str]) -> str:
    """Return a path made absolute. Raises UsageError for "", which would become the current folder."""
    name = os.fspath(path)
    if not name:
        raise UsageError("'' names no file or folder", hint="is a variable empty? The current folder is .")
    return os.path.abspath(name)


def check_roots(paths: Iterable[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Return the paths made absolute.

    Raises PathNotFound when one is missing or cannot be read: an unmounted disk must not look like an emptied folder.
    """
    roots = []
    for path in paths:
        root = absolute(path)
        try:
            if os.path.isdir(root):
                os.scandir(root).close()
            else:
                os.stat(root)
        except OSError as error:
            raise PathNotFound(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise PathNotFound(f"cannot read {path!r}: {error}") from error
        roots.append(root)
    return tuple(roots)


def survey(catalogue: Catalogue, scope: Scope, *, skip: Sequence[str], watch: Watch) -> Survey:
    """Compare the files under the roots with the catalogue by size and mtime; opens none of them."""
    result = Survey()
    ledger = {} if scope.retry_failed else {failure.path: failure for failure in catalogue.journal.failures()}
    for chunk in _chunks(find(scope.roots, exclude=scope.exclude, skip=skip)):
        files = [item for item in chunk if isinstance(item, FoundFile)]
        result.failures += [item for item in chunk if isinstance(item, Failure)]
        known = catalogue.known([file.path for file in files])
        result.work.extend(list(_to_open(files, known, ledger, result)))
        watch.on_progress(Progress("scan", result.found, 0))
        if watch.stop():
            break
    return result


def _to_open(
    files: Iterable[FoundFile], known: dict[str, Known], ledger: dict[str, Failure], result: Survey
) -> Iterator[FoundFile]:
    for file in files:
        image, failure = known.get(file.path), ledger.get(file.path)
        if failure is not None and (failure.size, failure.mtime_ns) == (file.size, file.mtime_ns):
            result.failed_before += 1
        elif image is None:
            result.new += 1
            yield file
        elif (image.size, image.mtime_ns) != (file.size, file.mtime_ns):
            result.changed += 1
            yield file
        elif image.present:
            result.unchanged += 1
        else:
            result.restored.append(image.id)


def gone(
    catalogue: Catalogue, roots: Sequence[str], scan: Survey, *, away: Collection[str] = ()
) -> tuple[list[int], list[str]]:
    """Return the ids of shown images that are no longer on disk, and the paths of failures that are no longer true.

    Speaks of what lies under the roots alone. An image that is merely left out of this scan, or lies in a folder that
    cannot be looked into, is not gone; nor is one below a folder whose disk is away.
    """
    ours, out_of_reach = under(roots), under(away)
    ids = [id for id, path in catalogue.each_path() if ours(path) and not out_of_reach(path) and is_gone(path)]
    # Nobody opens what the scan itself stumbled over, so the scan alone can tell that it is in order again.
    stumbled = {catalogue.paths.stored(failure.path) for failure in scan.failures}
    # What could not be read may have failed because its disk went, and is to be tried again.
    ledger = [
        failure
        for failure in catalogue.journal.failures()
        if ours(failure.path) and (failure.stage == "read" or not out_of_reach(failure.path))
    ]
    mended = [
        failure.path
        for failure in ledger
        if (catalogue.paths.stored(failure.path) not in stumbled if failure.stage == "find" else is_gone(failure.path))
    ]
    return ids, mended


def is_gone(path: str) -> bool:
    """Whether the system says that there is no such file (any more); a doubt is a no."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def _chunks(items: Iterable[FoundFile | Failure]) -> Iterator[list[FoundFile | Failure]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
