"""Normalises the paths that a caller gives, converts them to the catalogue's form and back, and compares them.

Every path that a person or a program gives, by whichever way, passes through `absolute` once. Paths that the package
found itself are absolute already, and are used as they are.

The catalogue stores a path relative to the folder that holds the index if the path lies below it, so that images and
index can be moved together; other paths are stored absolute. A path is text, or a blob of its bytes if it is not UTF-8.

An address (see sources/addresses.py) is a path too. It is stored as it is, and nothing here looks for it on this
machine.
"""

from __future__ import annotations

import functools
import os
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from imgindex.errors import ImgindexError, IndexDamaged, PathNotFound, UsageError
from imgindex.sources.addresses import is_address, normal_address

StoredPath = str | bytes

RECENT_NS = 2 * 10**9


class PathMap:
    """Converts absolute paths to the catalogue's form and back, for one index folder."""

    def __init__(self, index: str) -> None:
        base = os.path.dirname(os.path.abspath(index))
        self._prefixes = (_with_slash(base), _with_slash(os.path.realpath(base)))

    def stored(self, path: str) -> StoredPath:
        """Return the catalogue's form of a path; a relative path is made absolute first."""
        if not _is_normal(path):
            if is_address(path):
                return _encoded(path)
            path = os.path.abspath(path)
        for prefix in self._prefixes:
            if path.startswith(prefix) or path == prefix[:-1]:
                path = path[len(prefix) :] or "."
                break
        return _encoded(path)

    def absolute(self, stored: StoredPath) -> str:
        """Return the absolute path of the catalogue's form. Raises IndexDamaged for a path that contains a NUL."""
        path = os.fsdecode(stored)
        if "\0" in path:
            raise IndexDamaged(f"the catalogue is damaged: it holds a path with a NUL: {stored!r}")
        if is_address(path):
            return path
        path = path if path.startswith("/") else self._prefixes[0] + path
        return path if _is_normal(path) else os.path.normpath(path)

    def join_stored(self, paths: Sequence[str]) -> bytes:
        """Return the catalogue's forms of many absolute paths as bytes, joined by NULs."""
        text = "\0" + "\0".join(paths)
        first, second = self._prefixes
        is_plain = _are_normal(text) and text.count("\0/") == text.count("\0") == len(paths)
        if not is_plain or any(f"\0{prefix[:-1]}\0" in f"{text}\0" for prefix in self._prefixes):
            return b"\0".join(os.fsencode(self.stored(path)) for path in paths)
        return os.fsencode(text.replace(f"\0{first}", "\0").replace(f"\0{second}", "\0")[1:])

    def split_absolute(self, stored: bytes) -> list[str]:
        """Return the absolute paths of many of the catalogue's forms that NULs join. Raises IndexDamaged."""
        return self.all_absolute(os.fsdecode(stored).split("\0"))

    def all_absolute(self, stored: Sequence[StoredPath]) -> list[str]:
        """Return the absolute paths of many of the catalogue's forms. Raises IndexDamaged as `absolute`."""
        texts = [os.fsdecode(path) if isinstance(path, bytes) else path for path in stored]
        joined = "\0".join(texts)
        if not texts or not _are_normal(f"\0{joined}") or joined.count("\0") != len(texts) - 1:
            return [self.absolute(path) for path in stored]
        prefix = self._prefixes[0]
        return [path if path[0] == "/" else prefix + path for path in texts]

    def canonical(self, path: str) -> str:
        """Return one form of a path that a link to the index's folder gives several forms."""
        return self.absolute(self.stored(path))

    def stored_below(self, folder: str) -> list[tuple[StoredPath, StoredPath]] | None:
        """Return between which catalogue's forms the paths below a folder lie, each pair without its ends.

        None where that cannot be said: images of the index's own folder have no common beginning.
        """
        stored = self.stored(folder)
        if folder.rstrip("/").endswith(":"):  # a scheme, such as file://
            return None
        if stored == "." or any(prefix.startswith(_with_slash(folder)) for prefix in self._prefixes):
            return None
        # In the order of bytes, "0" follows "/". Blobs are names that are not UTF-8, also in folders whose names are.
        bytes_of = os.fsencode(stored)
        blobs: list[tuple[StoredPath, StoredPath]] = [(bytes_of + b"/", bytes_of + b"0")]
        return blobs if isinstance(stored, bytes) else [(stored + "/", stored + "0"), *blobs]

    def stored_real(self, path: str, real: str) -> StoredPath | None:
        """Return the catalogue's form of the real path of a file, or None where that is the form of `path` itself."""
        if real == path:
            return None  # as for most files
        stored = self.stored(real)
        return None if stored == self.stored(path) else stored


def _encoded(path: str) -> StoredPath:
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def absolute(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of the file or folder that a caller means, whether it exists or not.

    A name with an accent is found whether the accent is a character of its own (NFD) or not (NFC); a file with exactly
    the given name is preferred. Raises as `as_written` and `as_on_disk`.
    """
    return as_on_disk(as_written(path))


def on_this_machine(path: str | os.PathLike[str]) -> str:
    """Return what `absolute` returns. Raises UsageError for an address too: only images can be elsewhere."""
    at = absolute(path)
    if is_address(at):
        raise UsageError(f"{at} is an address: only images can be there", hint="name a file or folder of this machine")
    return at


def as_written(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a path, in the Unicode form of the caller, who may mean a file that is gone.

    A leading ~ or ~user is a home folder, unless a file has that very name. ".." leads to where the system would go,
    which is not the folder before it if that is a link. Other links stay in the path. Raises UsageError for "" and for
    bytes.

    >>> as_written("//tmp/./a.jpg"), as_written("S3://bucket/a.jpg")
    ('/tmp/a.jpg', 's3://bucket/a.jpg')
    """
    name = path_text(path)
    if is_address(name):
        return normal_address(name)
    if name.startswith("~") and not os.path.lexists(name):
        name = os.path.expanduser(name)
    name = _without_parents(name) if ".." in name.split("/") else os.path.abspath(name)
    # The standard gives two leading slashes a meaning that Linux and macOS do not have.
    return "/" + name.lstrip("/")


def as_on_disk(path: str) -> str:
    """Return an absolute path with its names in the Unicode form that they have on disk, as far as they are there.

    Raises PathNotFound where two names on disk differ only so from one of the path.
    """
    if path.isascii() or is_address(path) or os.path.lexists(path):
        return path
    found, rest = "/", path.split("/")[1:]
    while rest:
        following = os.path.join(found, rest[0])
        if not os.path.lexists(following):
            name = None if rest[0].isascii() else in_either_form(rest[0], _listing(found), "files")
            if name is None:
                return os.path.join(found, *rest)
            following = os.path.join(found, name)
        found = following
        del rest[0]
    return found


def path_text(path: str | os.PathLike[str]) -> str:
    """Return a path as text. Raises UsageError for "", for bytes, and for other objects."""
    try:
        name = os.fspath(path)
    except TypeError:
        raise UsageError(
            f"an object of the type {type(path).__name__} is not a path", hint="give text, or an os.PathLike object"
        ) from None
    if not isinstance(name, str):
        raise UsageError(f"the path {name!r} is bytes, not text", hint="convert it with os.fsdecode")
    if not name:
        raise UsageError("the path '' is empty", hint="check whether a variable is empty; the current folder is .")
    return name


def real_path(path: str) -> str:
    """Return an absolute path without links; what does not exist, or cannot be resolved, stays as it is."""
    if is_address(path):
        return path
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return path


class RealPaths:
    """Finds the real paths of many files within a moment: a folder is resolved once for the files that follow in it."""

    def __init__(self) -> None:
        self._folder: str | None = None
        self._real_folder = "/"

    def of(self, path: str) -> str:
        """Return what `real_path` returns."""
        return real_path(path) if os.path.islink(path) else self.of_entry(path)

    def of_entry(self, path: str) -> str:
        """Return the real path of a name in its folder: if it is a link, that of the link itself."""
        if is_address(path):
            return path
        folder, _, name = path.rpartition("/")
        if folder != self._folder:
            self._folder, self._real_folder = folder, _with_slash(real_path(folder or "/"))
        return self._real_folder + name


def nfc(text: str) -> str:
    """Return a text with each accent and its letter as one character, where there is such a character."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def by_nfc(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names that have each NFC form."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(nfc(name), []).append(name)
    return found


def in_either_form(
    name: str, forms: Mapping[str, list[str]], what: str, error: type[ImgindexError] = PathNotFound
) -> str | None:
    """Return the one name that differs from `name` only in its Unicode form, or None; forms: what `by_nfc` returns.

    what: how a message calls such a name. error: the class to raise where several names differ only so.
    """
    found = forms.get(nfc(name), [])
    if len(found) > 1:
        raise error(
            f"{name!a} can be {' or '.join(map(ascii, sorted(found)))}: {what} that differ only in how an accent is "
            "written",
            hint="write the name in one of these forms",
        )
    return found[0] if found else None


def _without_parents(name: str) -> str:
    """Return an absolute path without ".." and "."; ".." after a link leads out of the folder that the link leads to.

    Where the path does not exist, ".." removes the name before it.
    """
    path = "/" if name.startswith("/") else os.getcwd()
    for part in name.split("/"):
        if part == "..":
            if os.path.islink(path):
                path = real_path(path)
            path = os.path.dirname(path)
        elif part not in ("", "."):
            path = os.path.join(path, part)
    return path


def _listing(folder: str) -> Mapping[str, list[str]]:
    """Return the names in a folder by their NFC forms; nothing if it cannot be listed."""
    try:
        changed = os.stat(folder).st_mtime_ns
        # A folder that changed a moment ago may change again within the resolution of its time.
        recent = abs(time.time_ns() - changed) < RECENT_NS
        return (_listing_at.__wrapped__ if recent else _listing_at)(folder, changed)
    except (OSError, ValueError):
        return {}


# A list of many names in one folder reads the folder once.
@functools.lru_cache(maxsize=4)
def _listing_at(folder: str, mtime_ns: int) -> Mapping[str, list[str]]:
    return by_nfc(name for name in os.listdir(folder) if not name.isascii())


def as_list(values: Any) -> list[Any]:
    """Return several values as a list; a single path, or a value that cannot be iterated over, as a list of one."""
    return list(as_iterable(values))


def as_iterable(values: Any) -> Iterable[Any]:
    """Return what `as_list` returns, without reading an iterator: it may be endless."""
    single = isinstance(values, (str, bytes, os.PathLike)) or not isinstance(values, Iterable)
    return [values] if single else values


def is_under(path: str, folder: str) -> bool:
    """Whether an absolute path is that folder (or file) or lies below it."""
    return path == folder or path.startswith(_with_slash(folder))


def under(places: Iterable[str]) -> Callable[[str], bool]:
    """Return a test whether an absolute path is one of these folders or files or below one; fast even for a million."""
    known = {place.rstrip("/") for place in places}
    # The folder of the last path, and the answer for it: most paths follow one in the same folder.
    last: tuple[str | None, bool] = ("", "" in known)

    def climb(path: str | None) -> bool:
        while path and path not in known:
            path = parent(path)
        return path in known

    def test(path: str) -> bool:
        nonlocal last
        if path in known:
            return True
        folder = parent(path) if path else ""
        if folder != last[0]:
            last = folder, climb(folder)
        return last[1]

    return test


def parent(path: str) -> str | None:
    """Return the folder that an absolute path lies in: "" for "/", which contains all others of this machine.

    Nothing contains the bucket or the host of an address.

    >>> parent("/photos"), parent("s3://bucket/a.jpg"), parent("s3://bucket")
    ('', 's3://bucket', None)
    """
    folder = path[: path.rfind("/")]
    return None if folder.endswith(":/") else folder


def joined(folder: str, path: str) -> str:
    """Return a path as it is meant from a folder: what is absolute stays as it is."""
    return path if is_address(path) else os.path.join(folder, path)


def _is_normal(path: str) -> bool:
    """Return whether a path is certainly what os.path.abspath returns, which takes longer to find out."""
    return path.startswith("/") and "//" not in path and "/." not in path and len(path) > 1 and path[-1] != "/"


def _are_normal(text: str) -> bool:
    """Return whether each of many paths is certainly normal, but that it may be relative; no address is.

    text: all of them, with a NUL before each. To look through it takes a tenth of the time of looking at each path.
    """
    return not any(part in f"{text}\0" for part in ("//", "/.", "/\0", "\0.", "\0\0"))


def display_path(path: str, folder: str | None) -> str:
    """Return an absolute path relative to a folder if it lies below it; otherwise, or without a folder, unchanged."""
    prefix = "" if folder is None else _with_slash(folder)
    return path[len(prefix) :] if prefix and path.startswith(prefix) and len(path) > len(prefix) else path


def _with_slash(folder: str) -> str:
    return folder.rstrip("/") + "/"
