"""Converts paths between the catalogue's form and absolute paths, and compares them.

The catalogue stores a path relative to the folder that holds the index if the path lies below it, so that images and
index can be moved together; other paths are stored absolute. A path is text, or a blob of its bytes if it is not UTF-8.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from imgindex.errors import IndexDamaged, UsageError

StoredPath = str | bytes


class PathMap:
    """Converts absolute paths to the catalogue's form and back, for one index folder."""

    def __init__(self, index: str) -> None:
        base = os.path.dirname(os.path.abspath(index))
        self._prefixes = (_with_slash(base), _with_slash(os.path.realpath(base)))

    def stored(self, path: str) -> StoredPath:
        """Return the catalogue's form of a path; a relative path is made absolute first."""
        path = os.path.abspath(path)
        for prefix in self._prefixes:
            if path.startswith(prefix) or path == prefix[:-1]:
                path = path[len(prefix) :] or "."
                break
        try:
            path.encode()
        except UnicodeEncodeError:
            return os.fsencode(path)
        return path

    def absolute(self, stored: StoredPath) -> str:
        """Return the absolute path of the catalogue's form. Raises IndexDamaged for a path that contains a NUL."""
        path = os.fsdecode(stored)
        if "\0" in path:
            raise IndexDamaged(f"the catalogue is damaged: it holds a path with a NUL: {stored!r}")
        return os.path.normpath(path if path.startswith("/") else self._prefixes[0] + path)

    def canonical(self, path: str) -> str:
        """Return one form of a path that a link to the index's folder gives several forms."""
        return self.absolute(self.stored(path))


def absolute(path: str | os.PathLike[str]) -> str:
    """Return a path made absolute. Raises UsageError for "", which would become the current folder."""
    name = os.fspath(path)
    if not name:
        raise UsageError("the path '' is empty", hint="check whether a variable is empty; the current folder is .")
    return os.path.abspath(name)


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

    def test(path: str) -> bool:
        while path and path not in known:
            path = path[: path.rfind("/")]
        return path in known

    return test


def display_path(path: str, folder: str | None) -> str:
    """Return an absolute path relative to a folder if it lies below it; otherwise, or without a folder, unchanged."""
    prefix = "" if folder is None else _with_slash(folder)
    return path[len(prefix) :] if prefix and path.startswith(prefix) and len(path) > len(prefix) else path


def _with_slash(folder: str) -> str:
    return folder.rstrip("/") + "/"
