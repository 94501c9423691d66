"""A folder for each group of images, filled with links to the images or with copies of them.

Only an empty folder, or one that an earlier run filled, is accepted: manifest.py knows which files imgindex wrote.
Nothing else is replaced or removed, and no image is moved.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from imgindex.errors import FolderNotOurs, UnreadableImage, UsageError
from imgindex.export import manifest
from imgindex.export.filenames import comparison_key, distinct_names, safe_name, unused_name
from imgindex.export.manifest import Manifest
from imgindex.export.targets import check_target
from imgindex.sources.exported import FOLDERS_MANIFEST, Entry
from imgindex.sources.registry import is_own_file, look, parts
from imgindex.sources.registry import where as whereabouts
from imgindex.storage.paths import absolute, as_iterable, on_this_machine, real_path
from imgindex.types import Failure, OnProgress, Path, Progress

# The name of a copy until it is complete.
PART = ".imgindex-part"
CHUNK = 1 << 20
# Some file systems keep times in steps of two seconds.
COARSE_NS = 2 * 10**9


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """A link or copy: `name` is FOLDER/FILE within the linked folders, `image` the absolute path of the image."""

    name: str
    image: str


@dataclass(frozen=True, slots=True)
class LinkedFolders:
    """What was written in the folder `where`; with `dry_run`, what would be.

    made: new links or copies. kept: those of an earlier run that are still right. removed: those of an earlier run that
    no group has any more. failures: images that are missing or cannot be read.
    """

    where: str
    copies: bool
    dry_run: bool
    made: tuple[PlacedImage, ...] = ()
    kept: tuple[PlacedImage, ...] = ()
    removed: tuple[PlacedImage, ...] = ()
    failures: tuple[Failure, ...] = ()


def link_folders(
    where: Path,
    groups: Mapping[str, Path | Iterable[Path]],
    *,
    copy: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    on_progress: OnProgress = lambda progress: None,
) -> LinkedFolders:
    """Fill the folder `where` with a folder for each group, which has a link to each image of the group.

    groups: paths of images by the name of the group, which is made safe. copy: write copies, with the times of the
    images, instead of links. overwrite: accept a folder that has other files; they stay. dry_run: change nothing.
    Links to images below the folder that holds `where` are relative, so that both can be moved together; other links
    are absolute. Links and copies of an earlier run that no group has any more are removed. A run that was interrupted
    is continued by the next one.

    Raises UsageError when an image is in `where` itself, or in an archive and no copies are made; FolderNotOurs, before
    anything is changed, when `where` is not empty and was not filled by imgindex (unless `overwrite`), or has a file of
    the user under a name that is needed; OSError.
    """
    where = real_path(on_this_machine(where))
    failures: list[Failure] = []
    wanted = _plan(where, groups, copy, failures)
    before = manifest.read(where, overwrite=overwrite)
    _check_names(where, before, wanted)
    kept = {name: before.entries[name] for name in wanted if _is_right(before.entries.get(name), wanted[name])}
    made = {name: entry for name, entry in wanted.items() if name not in kept}
    if not dry_run:
        made = _carry_out(where, before, kept, made, failures, on_progress)
    return LinkedFolders(
        where,
        copy,
        dry_run,
        made=_placed(made),
        kept=_placed(kept),
        removed=_placed({name: entry for name, entry in before.entries.items() if name not in wanted}),
        failures=tuple(failures),
    )


def check_folder(where: str, *, overwrite: bool = False) -> None:
    """Raise FolderNotOurs unless `link_folders` would accept a folder: before the groups are computed. Raises OSError.

    A name with the ending of an image is refused like that of a file.
    """
    real = os.path.realpath(on_this_machine(where))
    if not os.path.isdir(real):
        check_target(where, overwrite=overwrite)
    if os.path.lexists(real):
        manifest.read(real, overwrite=overwrite)


def _placed(entries: Mapping[str, Entry]) -> tuple[PlacedImage, ...]:
    return tuple(PlacedImage(name, entry.source) for name, entry in entries.items())


def _plan(
    where: str, groups: Mapping[str, Path | Iterable[Path]], copy: bool, failures: list[Failure]
) -> dict[str, Entry]:
    """Return the wanted links or copies by FOLDER/FILE; a group without readable images gets no folder."""
    real_folder = functools.cache(real_path)
    wanted: dict[str, Entry] = {}
    folders: set[str] = set()
    for group, paths in groups.items():
        found: dict[str, Entry] = {}
        for path in dict.fromkeys(map(absolute, as_iterable(paths))):
            real = os.path.join(real_folder(os.path.dirname(path)), os.path.basename(path))
            if real.startswith(f"{where}/"):
                raise UsageError(f"{path} lies in {where} itself", hint="name another folder")
            try:
                found[path] = _entry(path, real, where, copy)
            except UnreadableImage as error:
                failures.append(Failure(path, error.stage, error.reason))
        if found:
            folder, names = unused_name(safe_name(group), folders), set[str]()
            for path, name in distinct_names(list(found)).items():
                wanted[f"{folder}/{unused_name(name, names)}"] = found[path]
    return wanted


def _entry(path: str, real: str, where: str, copy: bool) -> Entry:
    """Return the link to an image, or its copy. Raises UnreadableImage; UsageError for a link into an archive."""
    if not is_own_file(path):
        if not copy:
            raise UsageError(
                f"{path} is {whereabouts(path)}, where no link can lead to it",
                hint="make copies with `copy=True`",
            )
        if (file := look(path)) is None:
            raise UnreadableImage("there is none in its source any more", stage="read")
        return Entry(path, size=file.size, mtime_ns=file.mtime_ns)
    try:
        info = os.stat(path)
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error), stage="read") from error
    if not stat.S_ISREG(info.st_mode):
        raise UnreadableImage("not a regular file", stage="read")
    if copy:
        return Entry(path, size=info.st_size, mtime_ns=info.st_mtime_ns)
    return Entry(path, link=_target(path, real, where))


def _target(path: str, real: str, where: str) -> str:
    """Return the target of a link: relative from the real path, because the system resolves ".." from real folders."""
    base = os.path.dirname(where).rstrip("/") + "/"
    return f"../../{real[len(base) :]}" if base != "/" and real.startswith(base) else path


def _check_names(where: str, before: Manifest, wanted: Mapping[str, Entry]) -> None:
    """Raise FolderNotOurs if a file that imgindex did not write has a name that is needed."""
    ours = set(map(comparison_key, (*before.folders, *before.entries)))
    for name in {name.partition("/")[0]: None for name in wanted} | dict.fromkeys(wanted):
        path = os.path.join(where, name)
        if comparison_key(name) not in ours and os.path.lexists(path):
            raise FolderNotOurs(f"{path} is needed for images, but exists already and was not written by imgindex")


def _is_right(old: Entry | None, new: Entry) -> bool:
    """Whether the link or copy that is there is the one that is wanted."""
    if old is None or old.link or new.link:
        return old is not None and old.link == new.link
    return (old.source, old.size) == (new.source, new.size) and abs(old.mtime_ns - new.mtime_ns) < COARSE_NS


def _carry_out(
    where: str,
    before: Manifest,
    kept: Mapping[str, Entry],
    wanted: Mapping[str, Entry],
    failures: list[Failure],
    on_progress: OnProgress,
) -> dict[str, Entry]:
    """Remove what is not kept, make what is wanted, and return what was made."""
    folders = {name.partition("/")[0] for name in (*kept, *wanted)}
    if not folders and not before.folders:
        return {}
    os.makedirs(where, exist_ok=True)
    for name, entry in before.entries.items():
        path = os.path.join(where, name)
        if name not in kept and entry.is_at(path):
            os.unlink(path)
    for folder in before.folders - folders:
        with contextlib.suppress(OSError):  # it still has files of the user
            os.rmdir(os.path.join(where, folder))
    # Written before the links and copies: if the process dies, the next run knows those that were finished.
    Manifest(before.folders | folders, {**kept, **wanted}).write(where)
    made: dict[str, Entry] = {}
    for folder in folders:
        os.makedirs(os.path.join(where, folder), exist_ok=True)
    for done, (name, entry) in enumerate(wanted.items(), 1):
        try:
            made[name] = _link(where, name, entry) if entry.link else _copy(where, name, entry)
        except UnreadableImage as error:
            failures.append(Failure(entry.source, error.stage, error.reason))
        on_progress(Progress("link" if entry.link else "copy", done, len(wanted)))
    left = {folder for folder in before.folders | folders if os.path.isdir(os.path.join(where, folder))}
    Manifest(left, {**kept, **made}).write(where)
    if os.listdir(where) == [FOLDERS_MANIFEST]:
        os.unlink(os.path.join(where, FOLDERS_MANIFEST))
    return made


def _link(where: str, name: str, entry: Entry) -> Entry:
    os.symlink(entry.link, os.path.join(where, name))
    return entry


def _copy(where: str, name: str, entry: Entry) -> Entry:
    """Copy one image, and return the entry with the time that the file system kept. Raises UnreadableImage, OSError."""
    path, part = os.path.join(where, name), os.path.join(where, PART)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part)
    try:
        with open(part, "xb") as file:
            file.writelines(_chunks(entry.source))
        os.utime(part, ns=(entry.mtime_ns, entry.mtime_ns))
        # Renaming would replace a file that was put there meanwhile.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        os.rename(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
    info = os.stat(path)
    return replace(entry, size=info.st_size, mtime_ns=info.st_mtime_ns)


def _chunks(image: str) -> Iterator[bytes]:
    try:
        with parts(image) as read_part:
            offset = 0
            while chunk := read_part(offset, CHUNK):
                yield chunk
                offset += len(chunk)
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error), stage="read") from error
