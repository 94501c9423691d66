"""A folder for each group of images, filled with links to them or with copies of them.

Nothing is moved, and nothing is replaced or removed that was not made here: what a former run has made is known by a
list in the folder (see manifest.py), and other people's files keep their names.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from imgindex.errors import UnreadableImage, UsageError
from imgindex.reports import naming
from imgindex.reports.manifest import PART, Made, Manifest
from imgindex.types import Failure, OnProgress, Progress

CHUNK = 1 << 20
# Some disks keep times in steps of so many nanoseconds.
COARSE_NS = 2 * 10**9


@dataclass(frozen=True, slots=True)
class Placed:
    """An image's place: `name`, as FOLDER/FILE, in the folder that was arranged, and the absolute path of the image."""

    name: str
    image: str


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What was made in the folder `where`, or with `dry_run` would be.

    made: new links or copies; kept: those of a former run that are still right; removed: those that are not, and were
    taken away. avoided: names that somebody else's files have, so that others were taken. failures: images that are
    gone or cannot be read.
    """

    where: str
    copies: bool
    dry_run: bool
    made: tuple[Placed, ...] = ()
    kept: tuple[Placed, ...] = ()
    removed: tuple[Placed, ...] = ()
    avoided: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()


def arrange(
    where: str | os.PathLike[str],
    groups: Mapping[str, Sequence[str]],
    *,
    copy: bool = False,
    dry_run: bool = False,
    on_progress: OnProgress = lambda progress: None,
) -> Arrangement:
    """Fill the folder `where` with a folder for each group, and that with a link to each of the group's images.

    groups: from a name, which is made safe, to paths. Links are relative to images below the folder that holds `where`,
    so that both move together, and absolute to others. copy: copies, with the times of the images, instead of links.
    What a former run has made there and is now of no group is removed. dry_run: tell, and change nothing.

    Raises UsageError where an image lies in `where` itself, FolderNotOurs, OSError as when the disk is full: what was
    made until then is known to the next run, which goes on.
    """
    if not os.fspath(where):
        raise UsageError("'' names no folder")
    where = os.path.realpath(where)
    if os.path.exists(where) and not os.path.isdir(where):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), where)
    plan = _Plan(where, Manifest.read(where))
    for name, paths in groups.items():
        plan.group(name, [os.path.abspath(path) for path in paths], copy=copy)
    if not dry_run:
        _carry_out(plan, on_progress)
    return Arrangement(
        where,
        copy,
        dry_run,
        made=tuple(Placed(name, made.source) for name, made in plan.new.items()),
        kept=tuple(Placed(name, made.source) for name, made in plan.kept.items()),
        removed=tuple(Placed(name, made.source) for name, made in plan.old.items() if name not in plan.new),
        avoided=tuple(plan.avoided),
        failures=tuple(plan.failures),
    )


@dataclass(slots=True)
class _Plan:
    """What is to be made (`new`), is there already (`kept`), and is to go (`old`); all by FOLDER/FILE.

    folders: those of the groups. taken: their keys; foreign: keys of what is not ours beside them.
    """

    where: str
    before: Manifest
    new: dict[str, Made] = field(default_factory=dict)
    kept: dict[str, Made] = field(default_factory=dict)
    old: dict[str, Made] = field(init=False)
    folders: list[str] = field(default_factory=list)
    avoided: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    foreign: set[str] = field(init=False)
    ours: dict[str, set[str]] = field(init=False)
    real: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.old = dict(self.before.entries)
        self.foreign = {naming.key(name) for name in _names(self.where) if name not in self.before.folders}
        self.ours = {folder: set() for folder in self.before.folders}
        for entry in self.old:
            folder, _, name = entry.partition("/")
            self.ours[folder].add(name)

    def group(self, name: str, paths: Sequence[str], *, copy: bool) -> None:
        """Plan the folder of a group, which is called after its name, or nothing where none of its images is there."""
        found = dict(self._found(paths))
        if not found:
            return
        folder = self._free(naming.safe(name), self.taken, self.foreign)
        self.folders.append(folder)
        ours, taken = self.ours.get(folder, set()), {PART}
        others = _names(os.path.join(self.where, folder)) if folder in self.ours else []
        foreign = {naming.key(other) for other in others if other not in ours and other != PART}
        for path, file_name in naming.telling(list(found)).items():
            entry = f"{folder}/{self._free(file_name, taken, foreign, within=f'{folder}/')}"
            info = found[path]
            made = Made(path, size=info.st_size, mtime_ns=info.st_mtime_ns) if copy else Made(path, self._link(path))
            if entry in self.old and _is_right(self.old[entry], made):
                self.kept[entry] = self.old.pop(entry)
            else:
                self.new[entry] = made

    def _free(self, name: str, taken: set[str], foreign: set[str], *, within: str = "") -> str:
        """Return the name, or another where it is taken, and take it."""
        if naming.key(name) in foreign:
            self.avoided.append(within + name)
        return naming.free(name, taken, foreign)

    def _found(self, paths: Sequence[str]) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the images that are there, each once; the others are failures."""
        for path in dict.fromkeys(paths):
            if self._really(path).startswith(f"{self.where}/"):
                raise UsageError(f"{path} lies in {self.where} itself", hint="name another folder")
            try:
                info = os.stat(path)
            except OSError as error:
                self.failures.append(Failure(path, "read", error.strerror or str(error)))
                continue
            if stat.S_ISREG(info.st_mode):
                yield path, info
            else:
                self.failures.append(Failure(path, "read", "not a regular file"))

    def _link(self, path: str) -> str:
        # The system follows ".." from where the folder really is, so the rest must be from there too.
        base, really = os.path.dirname(self.where).rstrip("/") + "/", self._really(path)
        return f"../../{really[len(base) :]}" if base != "/" and really.startswith(base) else path

    def _really(self, path: str) -> str:
        """Return an image's path without links on its way; the image itself may be one."""
        folder, name = os.path.split(path)
        if folder not in self.real:
            self.real[folder] = os.path.realpath(folder)
        return os.path.join(self.real[folder], name)


def _is_right(old: Made, new: Made) -> bool:
    if old.link or new.link:
        return old.link == new.link
    return (old.source, old.size) == (new.source, new.size) and abs(old.mtime_ns - new.mtime_ns) < COARSE_NS


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _carry_out(plan: _Plan, on_progress: OnProgress) -> None:
    if not plan.folders and not plan.before.folders:
        return
    os.makedirs(plan.where, exist_ok=True)
    # First, all that will be there wherever this run may end. What is not, the next one does not believe.
    now = Manifest(plan.before.folders | set(plan.folders), {**plan.before.entries, **plan.new})
    now.write(plan.where)
    for name, made in plan.old.items():
        path = os.path.join(plan.where, name)
        if made.is_at(path):
            os.unlink(path)
    for folder in plan.before.folders - set(plan.folders):
        _remove_if_empty(os.path.join(plan.where, folder))
    for folder in plan.folders:
        os.makedirs(os.path.join(plan.where, folder), exist_ok=True)
    total = len(plan.new)
    for done, (name, made) in enumerate(list(plan.new.items()), 1):
        try:
            plan.new[name] = _make(os.path.join(plan.where, name), made)
        except UnreadableImage as error:
            plan.failures.append(Failure(made.source, error.stage, error.reason))
            del plan.new[name]
        on_progress(Progress("link" if made.link else "copy", done, total))
    left = {folder for folder in now.folders if os.path.isdir(os.path.join(plan.where, folder))}
    Manifest(left, {**plan.kept, **plan.new}).write(plan.where)


def _make(path: str, made: Made) -> Made:
    """Make one link or copy, and return what the disk says of it. Raises UnreadableImage where its image is not."""
    if made.link:
        os.symlink(made.link, path)
        return made
    part = os.path.join(os.path.dirname(path), PART)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part)
    try:
        with open(part, "xb") as file:
            file.writelines(_chunks(made.source))
        os.utime(part, ns=(made.mtime_ns, made.mtime_ns))
        # It would replace what somebody may have put there meanwhile.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        os.rename(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
    info = os.stat(path)
    return Made(made.source, size=info.st_size, mtime_ns=info.st_mtime_ns)


def _chunks(image: str) -> Iterator[bytes]:
    try:
        with open(image, "rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error), stage="read") from error


def _remove_if_empty(folder: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, PART))
    with contextlib.suppress(OSError):
        os.rmdir(folder)
