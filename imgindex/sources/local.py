"""The files of this machine: finds images below folders, in a stable order, without opening them."""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imgindex.sources.base import MAX_BYTES, Content, FileHash, Found, ReadPart
from imgindex.sources.content import hash_file, read_content
from imgindex.sources.exported import FOLDERS_MANIFEST, exported_names
from imgindex.sources.selection import (
    ARCHIVE_ENDINGS,
    INDEX_ENDING,
    NEVER_ENTERED,
    Selection,
    SkippedFiles,
    ending,
    is_hidden,
)
from imgindex.sources.signature import is_image, read_head
from imgindex.types import Failure, FoundFile, UnnamedFile

_PARTS_OF_AN_INDEX = {"catalogue.db", "segments"}
# Marks a folder to which `duplicates --move-to` moved files.
MOVED_JOURNAL = ".imgindex-moved.jsonl"
_MARKS = {*_PARTS_OF_AN_INDEX, MOVED_JOURNAL}
MOUNTS = "/proc/self/mountinfo"
# File systems without inodes of their own: Linux numbers their files as it meets them.
_PASSING_INODES = ("vfat ", "msdos ", "exfat ", "fuse")

_Inode = tuple[int, int]


class LocalSource:
    """The files of this machine."""

    where, is_far = "on this machine", False

    def find(self, roots: Iterable[str], selection: Selection) -> Iterator[Found]:
        """Yield every image file under the roots once, ordered by the bytes of the names, and a Failure for each error.

        A file that several paths lead to is yielded once: by its own path, or by the path of the first link to it.
        Links to files come last. A hard link is a file of its own. A file whose name has no ending is yielded as an
        UnnamedFile: it may be an image; no file is opened.

        roots: absolute paths. A root that is a file is yielded whatever its ending; a folder is searched recursively.

        A Failure may be that of a folder that cannot be listed: the files below it are unknown, not missing.
        """
        search = _Search(selection)
        for root in roots:
            yield from search.root(root)
        yield from search.linked()

    def check(self, root: str) -> None:
        """Raise OSError or ValueError unless there is a file at a path, or a folder that can be listed."""
        if os.path.isdir(root):
            os.scandir(root).close()
        else:
            os.stat(root)

    def look(self, path: str) -> FoundFile | None:
        """Return the size and times of a file as they are now, without its inode; None where it cannot be found."""
        try:
            info = os.stat(path)
        except (OSError, ValueError):
            return None
        return FoundFile(path, info.st_size, info.st_mtime_ns, info.st_ctime_ns)

    def gone(self, paths: Iterable[str]) -> Iterator[str]:
        """Yield the paths at which there is certainly no file."""
        return filter(is_missing, paths)

    def read(self, path: str, *, max_bytes: int = MAX_BYTES) -> Content:
        """Return the whole content of a file: see `read_content`."""
        return read_content(path, max_bytes=max_bytes)

    def read_head(self, path: str) -> bytes | None:
        """Return the first bytes of a file: see `read_head`."""
        return read_head(path)

    def hash(self, path: str) -> FileHash:
        """Return the SHA-256 of a file of any size: see `hash_file`."""
        return hash_file(path)

    def is_unchanged(self, path: str, read: FileHash) -> bool:
        """Return whether the file at a path is still the one that was hashed. Raises OSError."""
        return read.is_of(os.stat(path))

    @contextmanager
    def parts(self, path: str) -> Iterator[ReadPart]:
        """Lend a function that returns the bytes of a file at an offset; opening never blocks. Raises OSError."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            yield lambda offset, length: os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)

    def is_folder(self, path: str) -> bool:
        """Return whether there is a folder or an archive at a path."""
        return os.path.isdir(path) or (ending(os.path.basename(path)) in ARCHIVE_ENDINGS and os.path.isfile(path))

    def is_sequential(self, path: str) -> bool:
        """Return False: any file is read as fast as the next one."""
        return False


def _lasting_inode(info: os.stat_result) -> int | None:
    """Return the inode of a file, or None where its file system numbers files anew whenever it is mounted."""
    return info.st_ino if _keeps_inodes(info.st_dev) else None


@functools.lru_cache(maxsize=64)
def _keeps_inodes(device: int) -> bool:
    try:
        with open(MOUNTS, encoding="utf-8", errors="replace") as mounts:
            for mount in mounts:
                # 36 35 98:0 /root /mount/point options [optional fields] - type source options
                fields, _, file_system = mount.partition(" - ")
                if file_system.startswith(_PASSING_INODES) and fields.split()[2] == _device_name(device):
                    return False
    except OSError:  # not Linux
        return True
    return True


def _device_name(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


def _has_image_content(path: str) -> bool:
    head = read_head(path)
    return head is not None and is_image(head)


def is_missing(path: str) -> bool:
    """Return whether there is certainly no file at a path, or a folder instead; False if the system does not answer."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class _Listing:
    """The entries of one folder that are still to be visited: `names`, last first, and which of them are folders.

    `prefix` is the folder's path and a slash, `relative` its path from the root, "" or "a/b/", `links` the names of
    links to files. Only names are kept, because a folder may hold a million, and a DirEntry takes three times as much
    memory.
    """

    prefix: str
    relative: str
    names: list[str]
    folders: set[str]
    links: set[str]


class _Search:
    """One search of several roots; remembers which folders and files it has visited."""

    def __init__(self, selection: Selection) -> None:
        self._selection, self.skipped = selection, selection.skipped
        self._has_image_ending, self._is_excluded = selection.has_image_ending, selection.is_excluded
        # Entered folders by inode, because links give one folder several paths: their paths from the root, or None for
        # folders whose files are not yielded.
        self._entered: dict[_Inode, str | None] = {inode: None for inode in map(_inode, selection.skip) if inode}
        # The names of files that were given as roots, by the inodes of their folders.
        self._given: dict[_Inode, set[str]] = {}
        # Links to files, which are yielded last: the files may be found as well. True: it was given as a root.
        self._links: dict[str, bool] = {}
        # The names of links and copies that imgindex exported, by the paths of their folders, which are entered later,
        # and by the inodes of the folders that were entered.
        self._exported_below: dict[str, set[str]] = {}
        self._exported: dict[_Inode, set[str]] = {}
        # A cache of one: most roots that are files lie in the same folder as the root before.
        self._last_parent: tuple[str, _Inode | None] = ("", None)

    def root(self, root: str) -> Iterator[Found]:
        """Yield the root if it is a file, the files below it if it is a folder."""
        found: Found
        try:
            info = os.lstat(root)
            # Only links use pathlib, which takes twice as long as the system call: a pipe may name millions of paths.
            if stat.S_ISLNK(info.st_mode):
                info = Path(root).stat()
                if stat.S_ISREG(info.st_mode):
                    self._links[root] = True
                    return
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError) and not Path(root).is_symlink()
            found = _failure(root, "no such file or folder" if missing else _reason(error))
        else:
            if stat.S_ISDIR(info.st_mode):
                yield from self._below(root)
                return
            found = _file_or_failure(root, info)
        if self._is_new_root(root):
            yield from self._unless_archive(found)

    def linked(self) -> Iterator[Found]:
        """Yield the files to which only links lead, each once."""
        for link, is_root in self._links.items():
            name = os.path.basename(link)
            may_be_unnamed = not is_root and not self._has_image_ending(name) and not self._is_searched_archive(name)
            found = self._stat_unnamed(link) if may_be_unnamed else _stat_file(link)
            if found and (isinstance(found, Failure) or self._is_new_root(os.path.realpath(link))):
                yield from self._unless_archive(found)

    def _unless_archive(self, found: Found) -> Iterator[Found]:
        """Yield a file, but note an archive for its own source: it is searched like a folder."""
        if isinstance(found, FoundFile) and ending(os.path.basename(found.path)) in ARCHIVE_ENDINGS:
            self._selection.found_archives.append(found.path)
        else:
            yield found

    def _is_new_root(self, path: str) -> bool:
        """Return whether a file given as a root was neither given before nor yielded from its folder."""
        folder, _, name = path.rpartition("/")
        if folder != self._last_parent[0]:
            self._last_parent = (folder, _inode(folder or "/"))
        inode = self._last_parent[1]
        if inode is None:
            return True
        relative = self._entered.get(inode)
        names = self._given.setdefault(inode, set())
        if name in names or (relative is not None and self._was_yielded(path, name, relative, inode)):
            return False
        names.add(name)
        return True

    def _was_yielded(self, path: str, name: str, relative: str, inode: _Inode) -> bool:
        """Return whether a file was yielded when its folder was searched."""
        if name in self._exported.get(inode, ()) or is_hidden(name) or self._is_excluded(name, relative):
            return False
        if self._has_image_ending(name) or self._is_searched_archive(name):
            return True
        return not ending(name) and _has_image_content(path)

    def _below(self, root: str) -> Iterator[Found]:
        """Yield the files below a folder."""
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
            found: Found | None
            if name in listing.folders:
                found = self._enter(path, f"{listing.relative}{name}/", stack)
            elif self._has_image_ending(name):
                found = _stat_file(path)
            elif self._is_searched_archive(name):
                found = _stat_file(path)
                if isinstance(found, FoundFile) and name not in listing.links:
                    self._selection.found_archives.append(path)
                    continue
            else:
                found = self._stat_unnamed(path)
            if name in listing.links and isinstance(found, FoundFile):
                self._links.setdefault(path, False)
            elif found:
                yield found

    def _enter(self, folder: str, relative: str, stack: list[_Listing]) -> Failure | None:
        """Put a folder's listing on the stack, unless it was entered before or must not be searched."""
        try:
            info = os.stat(folder)
            inode = (info.st_dev, info.st_ino)
            if inode in self._entered:
                return None
            self._entered[inode] = None
            exported = self._exported_below.pop(folder, set())
            if exported:
                self._exported[inode] = exported
            listing = self._list(folder, relative, self._given.get(inode, set()), exported)
        except OSError as error:
            if isinstance(error, (FileNotFoundError, NotADirectoryError)):
                return None
            return _failure(folder, f"cannot list: {error.strerror}")
        if listing:
            stack.append(listing)
            self._entered[inode] = relative
        return None

    def _list(self, folder: str, relative: str, given: set[str], exported: set[str]) -> _Listing | None:
        """Return the entries of a folder to visit, without the names that were `given`; None for a folder to skip.

        exported: names of links and copies in it that imgindex made.
        """
        names, folders, links, seen = [], set(), set(), set()
        skipped = SkippedFiles()
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name in _MARKS:
                    seen.add(name)
                elif name == FOLDERS_MANIFEST and relative:
                    # In a folder that is a root itself, the user wants the links and copies too.
                    self._exported_below |= {
                        f"{folder.rstrip('/')}/{below}": files for below, files in exported_names(folder).items()
                    }
                if name in given or self._is_passed_over(name, relative, exported, skipped):
                    continue
                if _is_folder(entry):
                    if name not in NEVER_ENTERED and not name.endswith(INDEX_ENDING):
                        folders.add(name)
                        names.append(name)
                elif self._has_image_ending(name) or not (type := ending(name)) or self._is_searched_archive(name):
                    names.append(name)
                    if entry.is_symlink():
                        links.add(name)
                else:
                    skipped.by_ending[type] += 1
        # A folder with both is another index: image files in it are not the user's images. What was moved away must not
        # come back, unless that folder is the root.
        if seen >= _PARTS_OF_AN_INDEX or (relative and MOVED_JOURNAL in seen):
            return None
        self.skipped.add(skipped)
        names.sort(key=os.fsencode, reverse=True)
        return _Listing(f"{folder.rstrip('/')}/", relative, names, folders, links)

    def _is_passed_over(self, name: str, relative: str, exported: set[str], skipped: SkippedFiles) -> bool:
        """Return whether an entry is passed over whatever it is, and count it."""
        if name in exported:
            skipped.exported += 1
        elif is_hidden(name):
            skipped.hidden += self._has_image_ending(name)
        elif self._is_excluded(name, relative):
            skipped.excluded += 1
        else:
            return False
        return True

    def _is_searched_archive(self, name: str) -> bool:
        return self._selection.archives and ending(name) in ARCHIVE_ENDINGS

    def _stat_unnamed(self, path: str) -> UnnamedFile | None:
        """Return a file whose name has no ending; None if it is not a regular file, which cannot be an image."""
        found = _stat_file(path)
        if isinstance(found, FoundFile):
            return UnnamedFile(found.path, found.size, found.mtime_ns, found.ctime_ns, found.inode)
        self.skipped.by_ending[""] += found is not None
        return None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads to itself or into a closed folder: its stat gives the reason later.
        return False


def _stat_file(path: str) -> Found | None:
    """Return a listed file, the reason why it cannot be one, or None if it was deleted meanwhile."""
    try:
        info = os.stat(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not os.path.islink(path):
            return None
        return _failure(path, _reason(error))
    return _file_or_failure(path, info)


def _file_or_failure(path: str, info: os.stat_result) -> Found:
    if stat.S_ISREG(info.st_mode):
        return FoundFile(path, info.st_size, info.st_mtime_ns, info.st_ctime_ns, _lasting_inode(info))
    return _failure(path, "not a regular file")


def _reason(error: OSError | ValueError) -> str:
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
    inode = _lasting_inode(info)
    return Failure(path, "find", reason, info.st_size, info.st_mtime_ns, ctime_ns=info.st_ctime_ns, inode=inode)


def _inode(folder: str) -> _Inode | None:
    try:
        info = Path(folder).stat()
    except (OSError, ValueError):
        return None
    return (info.st_dev, info.st_ino)
