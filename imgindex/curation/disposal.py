"""Moves disposable files to a folder or to the trash, after reading them and the kept files once more; and undoes it.

Nothing is deleted. A move within a file system is a rename. To another file system the file is copied, synced and read
back before the original is removed. The journal in the folder has a line for each file, which is on the disk before the
file is touched: whenever a move is interrupted, the line and the two places show what is left to undo.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from imgindex.curation.move_journal import Journal
from imgindex.curation.sidecars import Folder
from imgindex.curation.verification import CHANGED
from imgindex.errors import UnreadableImage, UsageError
from imgindex.results import Disposal, DisposedFile, Duplicate, Duplicates
from imgindex.sources.base import BLOCK, FileHash
from imgindex.sources.registry import hash_file, is_unchanged
from imgindex.storage import durable
from imgindex.storage.paths import display_path, is_under, on_this_machine, real_path
from imgindex.storage.store import Store
from imgindex.storage.writer import Writer
from imgindex.types import Failure, FoundFile, OnProgress, Path, Progress

# The name of a copy until it is complete.
PART = ".imgindex-part"
RECORDED_AT_ONCE = 256


class NotMoved(Exception):
    """A file that stays where it is, with the reason."""


# Moving away.


def move_to(
    store: Store, found: Duplicates, folder: str, *, dry_run: bool, on_progress: OnProgress, wait: Callable[[], bool]
) -> Disposal:
    """Move the disposable files with their sidecars below `folder`, an absolute path, and mark the images as missing.

    Raises FolderNotOurs, UsageError, IndexLocked.
    """
    folder = real_path(folder)
    if is_under(folder, real_path(store.path)):
        raise UsageError(f"{folder} is in the index", hint="choose a folder outside")
    journal = Journal.open(folder)
    mover = _Mover(folder, os.path.dirname(os.path.abspath(store.path)), journal, dry_run=dry_run)
    return _dispose(store, found, mover, folder, dry_run=dry_run, on_progress=on_progress, wait=wait)


def trash(
    store: Store, found: Duplicates, *, dry_run: bool, on_progress: OnProgress, wait: Callable[[], bool]
) -> Disposal:
    """Put the disposable files with their sidecars into the system's trash, and mark the images as missing."""
    return _dispose(store, found, _Trash(dry_run=dry_run), "", dry_run=dry_run, on_progress=on_progress, wait=wait)


def _dispose(
    store: Store,
    found: Duplicates,
    mover: _Mover | _Trash,
    folder: str,
    *,
    dry_run: bool,
    on_progress: OnProgress,
    wait: Callable[[], bool],
) -> Disposal:
    result = _Result()
    total, done = sum(len(group.disposable) for group in found.groups), 0
    with contextlib.ExitStack() as stack:
        recorder = None
        if not dry_run:
            # From before the first move: no other process may write to the index meanwhile.
            recorder = stack.enter_context(_recording(stack.enter_context(store.writing(wait=wait))))
        for group in found.groups:
            kept = _Kept(group.kept, folder)
            for one in group.disposable:
                try:
                    kept.check()
                    files = _verified_move(one, kept, folder, mover, result)
                except (NotMoved, OSError) as error:
                    result.fail(one.path, error)
                else:
                    result.files += files
                    if recorder:
                        recorder(one)
                done += 1
                on_progress(Progress("move", done, total, unit="files"))
    return Disposal(folder, tuple(result.files), tuple(result.failures), dry_run)


@dataclass(slots=True)
class _Result:
    files: list[DisposedFile] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def fail(self, path: str, error: BaseException) -> None:
        self.failures.append(Failure(path, "move", _reason(error)))


class _Kept:
    """The kept file of a group: it must have the bytes that were compared whenever another file is moved."""

    def __init__(self, kept: Duplicate, folder: str) -> None:
        self.image, self._folder = kept, folder
        self.hash: FileHash | None = None

    def check(self) -> FileHash:
        path = self.image.path
        if self._folder and is_under(real_path(path), self._folder):
            raise NotMoved(f"{path}, which is kept, is in that folder itself")
        try:
            if self.hash is None or not is_unchanged(path, self.hash):
                self.hash = hash_file(path)
        except (UnreadableImage, OSError) as error:
            raise NotMoved(f"{path}, which is kept, cannot be read now: {_reason(error)}") from error
        if self.hash.sha256.hex() != self.image.sha256:
            raise NotMoved(f"{path}, which is kept, {CHANGED}")
        return self.hash


def _verified_move(
    one: Duplicate, kept: _Kept, folder: str, mover: _Mover | _Trash, result: _Result
) -> list[DisposedFile]:
    """Move one file with its sidecars; a sidecar that cannot be moved is a failure of its own."""
    if os.path.islink(one.path):
        raise NotMoved("it is a link, which takes no space")
    if folder and is_under(real_path(one.path), folder):
        raise NotMoved("it is in that folder already")
    read = _hash(one.path)
    if read.sha256.hex() != one.sha256:
        raise NotMoved(CHANGED)
    of_kept = kept.check()
    if (read.device, read.inode) == (of_kept.device, of_kept.inode):
        raise NotMoved(f"it is the same file as {kept.image.path}, which is kept")
    where, name = os.path.split(one.path)
    here = mover.folder_at(where)
    sidecars = here.sidecars(name)
    names = mover.names(where, [name, *sidecars])
    files = [mover.move(one.path, names[name], read, "")]
    here.remove(name)
    for sidecar in sidecars:
        path = os.path.join(where, sidecar)
        try:
            files.append(mover.move(path, names[sidecar], _hash(path), one.path))
            here.remove(sidecar)
        except (NotMoved, OSError) as error:
            result.fail(path, error)
    return files


def _hash(path: str) -> FileHash:
    try:
        return hash_file(path)
    except UnreadableImage as error:
        raise NotMoved(error.reason) from error


@contextlib.contextmanager
def _recording(writer: Writer) -> Iterator[Callable[[Duplicate], None]]:
    """Lend a function that marks images as missing; what it got is recorded even if the block raises."""
    moved: list[Duplicate] = []

    def record() -> None:
        known = writer.catalogue.known([one.path for one in moved])
        ids = [one.id for one in moved if one.path in known and known[one.path].id == one.id]
        with writer.catalogue.atomic():
            writer.catalogue.set_present(ids, False)
        moved.clear()

    def add(one: Duplicate) -> None:
        moved.append(one)
        if len(moved) >= RECORDED_AT_ONCE:
            record()

    try:
        yield add
    finally:
        if moved:
            record()


class _Trash:
    """Puts files into the trash of the system."""

    def __init__(self, *, dry_run: bool) -> None:
        self._dry_run = dry_run
        self._folders = _Folders()

    def folder_at(self, path: str) -> Folder:
        return self._folders.at(path)

    def names(self, folder: str, names: Sequence[str]) -> dict[str, str]:
        return dict.fromkeys(names, "")

    def move(self, path: str, to: str, read: FileHash, sidecar_of: str) -> DisposedFile:
        if not self._dry_run:
            import send2trash

            if not read.is_of(os.lstat(path)):
                raise NotMoved(CHANGED)
            send2trash.send2trash(path)
        return DisposedFile(path, "", read.size, sidecar_of)


class _Folders:
    """The folders of the files, each listed once."""

    def __init__(self) -> None:
        self._folders: dict[str, Folder] = {}

    def at(self, path: str) -> Folder:
        if path not in self._folders:
            self._folders[path] = Folder(path)
        return self._folders[path]


class _Mover:
    """Moves files below a folder, with their own folders, and never over another file."""

    def __init__(self, folder: str, base: str, journal: Journal, *, dry_run: bool) -> None:
        self._folder, self._base, self._journal, self._dry_run = folder, base, journal, dry_run
        self._folders = _Folders()
        self._planned: set[str] = set()

    def folder_at(self, path: str) -> Folder:
        return self._folders.at(path)

    def names(self, folder: str, names: Sequence[str]) -> dict[str, str]:
        """Return for each of some names in a folder a free path; all get the same number if one is taken."""
        below = display_path(folder, self._base) if folder != self._base else ""
        place = os.path.join(self._folder, below.lstrip("/"))
        stem = os.path.splitext(names[0])[0]
        number = 1
        while True:
            suffix = "" if number == 1 else f" ({number})"
            paths = {name: os.path.join(place, _numbered(name, stem, suffix)) for name in names}
            if not any(os.path.lexists(path) or path in self._planned for path in paths.values()):
                self._planned.update(paths.values())
                return paths
            number += 1

    def move(self, path: str, to: str, read: FileHash, sidecar_of: str) -> DisposedFile:
        """Move one file whose bytes were read. Raises NotMoved or OSError, and the file stays where it is."""
        if not self._dry_run:
            durable.make_folder(self._folder)
            self._journal.write({
                "from": path, "to": os.path.relpath(to, self._folder), "size": read.size, "sha256": read.sha256.hex(),
                "sidecar_of": sidecar_of,
            })  # fmt: skip
            durable.make_folder(os.path.dirname(to))
            move_file(path, to, read)
        return DisposedFile(path, to, read.size, sidecar_of)


def _numbered(name: str, stem: str, suffix: str) -> str:
    """Return a name with a number behind the stem that it has in common with the image."""
    if name.lower().startswith(stem.lower()):
        return f"{name[: len(stem)]}{suffix}{name[len(stem) :]}"
    start, ending = os.path.splitext(name)
    return f"{start}{suffix}{ending}"


# One file.


def move_file(path: str, to: str, read: FileHash) -> None:
    """Move a file whose bytes were read to a free path; return once the disk has it there.

    Raises NotMoved, and leaves the file, if it is not the one that was read; OSError.
    """
    # An empty file holds the name, so that the rename replaces no other file.
    os.close(os.open(to, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        if not read.is_of(os.lstat(path)):
            raise NotMoved(CHANGED)
        try:
            durable.disk.rename(path, to)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy(path, to, read)
    except BaseException:
        if os.path.lexists(path) and _is_empty(to):
            durable.remove(to)
        raise
    durable.sync_folder(os.path.dirname(to))
    with contextlib.suppress(FileNotFoundError):
        durable.sync_folder(os.path.dirname(path))


def _copy(path: str, to: str, read: FileHash) -> None:
    """Copy a file to another file system, read the copy back, and then remove the original."""
    part = to + PART
    try:
        with open(path, "rb") as source:
            descriptor = durable.disk.open(part)
            try:
                durable.disk.truncate(part, descriptor, 0)
                offset = 0
                while block := source.read(BLOCK):
                    durable.write(part, descriptor, block, offset)
                    offset += len(block)
                with contextlib.suppress(OSError):  # modes and attributes that the other file system does not have
                    shutil.copystat(path, part)
                durable.disk.sync(part, descriptor)
            finally:
                os.close(descriptor)
        if _hash(part).sha256 != read.sha256:
            raise NotMoved("its copy has other bytes than the file: is the disk damaged?")
        if not read.is_of(os.lstat(path)):
            raise NotMoved(CHANGED)
        durable.disk.rename(part, to)
    except BaseException:
        _remove(part)
        raise
    durable.sync_folder(os.path.dirname(to))
    # Only now is the file at its new place whatever happens.
    durable.disk.unlink(path)


def _is_empty(path: str) -> bool:
    with contextlib.suppress(OSError):
        return os.lstat(path).st_size == 0
    return False


# Undoing.


def undo_move(folder: Path, *, dry_run: bool = False, on_progress: OnProgress | None = None) -> Disposal:
    """Move back what `ImageIndex.move_duplicates` moved to a folder, without an index: the next `add` finds the images.

    Otherwise as `ImageIndex.undo_move`.

    >>> undo_move("spare")
    Traceback (most recent call last):
    imgindex.errors.FolderNotOurs: ...
    """
    return undo(on_this_machine(folder), None, dry_run=dry_run, on_progress=on_progress or (lambda progress: None))


def undo(
    folder: str,
    store: Store | None,
    *,
    dry_run: bool,
    on_progress: OnProgress,
    wait: Callable[[], bool] = lambda: False,
) -> Disposal:
    """Move all files below a folder back to where they came from; never over another file.

    Works after a move, or an undo, that was interrupted. store: the index whose images are marked as present again.
    Raises FolderNotOurs, IndexLocked.
    """
    folder = real_path(folder)
    journal = Journal.read(folder)
    result, left = _Result(), list[dict[str, Any]]()
    with contextlib.ExitStack() as stack:
        writer = None
        if store is not None and not dry_run:
            writer = stack.enter_context(store.writing(wait=wait))
        if not dry_run and journal.records:
            # Before the first file: an empty file at an old path is then known to hold the name.
            journal.replace([{**one, "restoring": True} for one in journal.records])
        total = len(journal.records)
        restored: list[DisposedFile] = []
        try:
            for done, record in enumerate(reversed(journal.records), 1):
                try:
                    if _restore(folder, record, dry_run=dry_run):
                        restored.append(_disposed(folder, record))
                except (NotMoved, OSError) as error:
                    result.fail(record["from"], error)
                    left.append(record)
                on_progress(Progress("undo", done, total, unit="files"))
        finally:
            if writer is not None:
                _mark_present(writer, restored)
        if not dry_run:
            journal.replace(left[::-1])
            if not left:
                _remove_empty_folders(folder)
    return Disposal(folder, tuple(restored), tuple(result.failures), dry_run)


def _disposed(folder: str, record: dict[str, Any]) -> DisposedFile:
    place = os.path.join(folder, record["to"])
    return DisposedFile(record["from"], place, int(record.get("size", 0)), str(record.get("sidecar_of", "")))


def _restore(folder: str, record: dict[str, Any], *, dry_run: bool) -> bool:
    """Move one file back; return False where there is nothing to move."""
    source, place = record["from"], os.path.join(folder, record["to"])
    remove = _skip if dry_run else _remove
    for part in [place + PART, *([source + PART] if record.get("restoring") else [])]:
        remove(part)
    there, back = os.path.lexists(place), os.path.lexists(source)
    if not there:
        if back:
            return False  # it was never moved, or it is back already
        raise NotMoved(f"it is no longer at {place}")
    if back and record.get("restoring") and _is_empty(source) and not _is_empty(place):
        # An undo before this one was interrupted between holding the name and moving the file.
        remove(source)
    elif back and (_is_held_name(place, record) or (_has(source, record) and _has(place, record))):
        # A move was interrupted: before the file was renamed, or, on another file system, before the original was gone.
        remove(place)
        return False
    elif back:
        raise NotMoved("there is another file now")
    if not dry_run:
        durable.make_folder(os.path.dirname(source))
        move_file(place, source, _hash(place))
    return True


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        durable.remove(path)


def _skip(path: str) -> None:
    """Remove nothing, in a dry run."""


def _is_held_name(place: str, record: dict[str, Any]) -> bool:
    """Return whether a move was interrupted between holding the name and moving the file."""
    return _is_empty(place) and record.get("size") != 0


def _has(path: str, record: dict[str, Any]) -> bool:
    try:
        return hash_file(path).sha256 == bytes.fromhex(record["sha256"])
    except UnreadableImage:
        return False


def _mark_present(writer: Writer, restored: Iterable[DisposedFile]) -> None:
    """Mark images as present whose files are back with the same bytes; the next `add` finds the others."""
    catalogue = writer.catalogue
    known = catalogue.known([one.path for one in restored if not one.sidecar_of])
    with catalogue.atomic():
        for path, image in known.items():
            with contextlib.suppress(UnreadableImage):
                read = hash_file(path)
                if read.sha256 == image.sha256:
                    file = FoundFile(path, read.size, read.mtime_ns, read.ctime_ns)
                    catalogue.move(image.id, file, real=catalogue.paths.stored_real(path, real_path(path)))


def _remove_empty_folders(folder: str) -> None:
    for path, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):  # not empty
            os.rmdir(path)


def _reason(error: BaseException) -> str:
    if isinstance(error, UnreadableImage):
        return error.reason
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
