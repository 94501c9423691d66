"""Finds the image files under folders, in a stable order, without opening any of them."""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgindex.types import Failure, FoundFile

# What Pillow 13 decodes by itself, and HEIF (.heic .heif .hif …) and .jxl, which a plug-in decodes where there is one.
# Left out: stubs that need another program (.bufr .eps .grib .h5 .hdf .ps .emf .wmf), films (.mpg .mpeg), what Pillow
# only writes (.palm .pdf) and .im, which it is about to drop.
IMAGE_SUFFIXES = frozenset({
    ".apng", ".avif", ".avifs", ".blp", ".bmp", ".bw", ".cur", ".dcx", ".dds", ".dib", ".fit", ".fits", ".flc",
    ".fli", ".ftc", ".ftu", ".gbr", ".gif", ".heic", ".heics", ".heif", ".heifs", ".hif",
    ".icb", ".icns", ".ico", ".iim", ".j2c",
    ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".jxl", ".mpo", ".msp", ".pbm",
    ".pcd", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".pxr", ".qoi", ".ras", ".rgb", ".rgba", ".sgi",
    ".tga", ".tif", ".tiff", ".vda", ".vst", ".webp", ".xbm", ".xpm",
})  # fmt: skip

_NEVER_ENTERED = frozenset({"@eaDir", "node_modules", "__MACOSX", "$RECYCLE.BIN", "System Volume Information"})
_PARTS_OF_AN_INDEX = {"catalogue.db", "segments"}
# Stands in a folder of links or copies that imgindex made, whose images lie elsewhere.
ARRANGED = ".imgindex-folders.json"

_Found = FoundFile | Failure
_Inode = tuple[int, int]


def find(roots: Iterable[str], *, exclude: Sequence[str] = (), skip: Sequence[str] = ()) -> Iterator[_Found]:
    """Yield every image file under the roots once, ordered by the bytes of the names, and a Failure for what is amiss.

    roots: absolute paths; a file is yielded whatever its suffix, a folder is walked with all that lies below.
    exclude: shell globs, matched against an entry's name and against its path from the root.
    skip: real paths of folders that are not entered.

    A Failure may speak of a folder that cannot be listed: what lies below it is unknown, not gone.
    """
    walk = _Walk(exclude, skip)
    for root in roots:
        yield from walk.root(root)


@dataclass(frozen=True, slots=True)
class _Listing:
    """What is still to be visited of one folder: `names`, last first, and which of them are folders.

    `prefix` is the folder's path and a slash, `relative` its path from the root, "" or "a/b/". Names alone, since a
    folder may hold a million, and a DirEntry takes three times as much memory.
    """

    prefix: str
    relative: str
    names: list[str]
    folders: set[str]


class _Walk:
    def __init__(self, exclude: Sequence[str], skip: Sequence[str]) -> None:
        globs = [glob.rstrip("/") for glob in exclude]
        self._excluded = re.compile("|".join(map(fnmatch.translate, globs))).match if globs else None
        # Folders by inode, for a path may lead to one through links; None marks those that yield nothing.
        self._entered: dict[_Inode, str | None] = {inode: None for inode in map(_inode, skip) if inode}
        self._given: dict[_Inode, set[str]] = {}
        # Most roots that are files share their folder with the one before.
        self._last_parent: tuple[str, _Inode | None] = ("", None)

    def root(self, root: str) -> Iterator[_Found]:
        found: _Found
        try:
            info = os.lstat(root)
            # Paths come by the million from a pipe, and what pathlib does costs twice as much as the system call.
            if stat.S_ISLNK(info.st_mode):
                info = Path(root).stat()
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError) and not Path(root).is_symlink()
            found = _failure(root, "no such file or folder" if missing else _why(error))
        else:
            if stat.S_ISDIR(info.st_mode):
                yield from self._tree(root)
                return
            found = _judge(root, info)
        if self._first_time(root):
            yield found

    def _first_time(self, path: str) -> bool:
        """Tell whether a file given as a root was neither given before nor yielded from its folder."""
        folder, _, name = path.rpartition("/")
        if folder != self._last_parent[0]:
            self._last_parent = (folder, _inode(folder or "/"))
        inode = self._last_parent[1]
        if inode is None:
            return True
        relative = self._entered.get(inode)
        names = self._given.setdefault(inode, set())
        if name in names or (relative is not None and _has_image_suffix(name) and self._welcome(name, relative)):
            return False
        names.add(name)
        return True

    def _tree(self, root: str) -> Iterator[_Found]:
        # An explicit stack, because folders nest deeper than Python recurses.
        stack: list[_Listing] = []
        failure = self._enter(root, "", stack)
        if failure:
            yield failure
        while stack:
            listing = stack[-1]
            if not listing.names:
                stack.pop()
                continue
            name = listing.names.pop()
            path = listing.prefix + name
            found = (
                self._enter(path, f"{listing.relative}{name}/", stack) if name in listing.folders else _examine(path)
            )
            if found:
                yield found

    def _enter(self, folder: str, relative: str, stack: list[_Listing]) -> Failure | None:
        """Put a folder's listing on the stack, unless it was entered before or is not for us."""
        try:
            info = os.stat(folder)
            inode = (info.st_dev, info.st_ino)
            if inode in self._entered:
                return None
            self._entered[inode] = None
            listing = self._list(folder, relative, self._given.get(inode, set()))
        except OSError as error:
            if isinstance(error, (FileNotFoundError, NotADirectoryError)):
                return None
            return _failure(folder, f"cannot list: {error.strerror}")
        if listing:
            stack.append(listing)
            self._entered[inode] = relative
        return None

    def _list(self, folder: str, relative: str, given: set[str]) -> _Listing | None:
        """Return what is to be visited of a folder, less the names that were `given`; None where it is an index.

        Nor is a folder entered that imgindex arranged, unless it is the root.
        """
        names, folders, seen = [], set(), set()
        with os.scandir(folder) as listed:
            for entry in listed:
                name = entry.name
                if name in _PARTS_OF_AN_INDEX:
                    seen.add(name)
                elif name == ARRANGED and relative:
                    return None
                if name in given or not self._welcome(name, relative):
                    continue
                if _is_folder(entry):
                    if name not in _NEVER_ENTERED and not name.endswith(".imgindex"):
                        folders.add(name)
                        names.append(name)
                elif _has_image_suffix(name):
                    names.append(name)
        # A folder with both is another index, whose thumbnails are nobody's images.
        if seen == _PARTS_OF_AN_INDEX:
            return None
        names.sort(key=os.fsencode, reverse=True)
        return _Listing(f"{folder.rstrip('/')}/", relative, names, folders)

    def _welcome(self, name: str, relative: str) -> bool:
        if name.startswith("."):
            return False
        return not (self._excluded and (self._excluded(name) or self._excluded(relative + name)))


def _has_image_suffix(name: str) -> bool:
    dot = name.rfind(".")
    return dot > 0 and name[dot:].lower() in IMAGE_SUFFIXES


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads to itself, or into a folder that we may not see: what it is, its stat will say.
        return False


def _examine(path: str) -> _Found | None:
    try:
        info = os.stat(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not os.path.islink(path):
            return None
        return _failure(path, _why(error))
    return _judge(path, info)


def _judge(path: str, info: os.stat_result) -> _Found:
    if stat.S_ISREG(info.st_mode):
        return FoundFile(path, info.st_size, info.st_mtime_ns)
    return _failure(path, "not a regular file")


def _why(error: OSError | ValueError) -> str:
    if not isinstance(error, OSError):
        return f"not a path: {error}"
    if isinstance(error, FileNotFoundError) or error.errno == errno.ELOOP:
        return "broken symbolic link"
    return f"cannot read: {error.strerror}"


def _failure(path: str, reason: str) -> Failure:
    try:
        info = os.lstat(path)
    except (OSError, ValueError):
        return Failure(path, "find", reason)
    return Failure(path, "find", reason, info.st_size, info.st_mtime_ns)


def _inode(folder: str) -> _Inode | None:
    try:
        info = Path(folder).stat()
    except (OSError, ValueError):
        return None
    return (info.st_dev, info.st_ino)
