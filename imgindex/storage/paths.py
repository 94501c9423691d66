"""How paths are kept: relative to the folder that holds the index where they lie under it, so that both move together.

A path is text in the catalogue, or a blob of its bytes where the name is not UTF-8.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from imgindex.errors import IndexDamaged
from imgindex.types import Failure, Image, Match

Record = TypeVar("Record", Image, Failure, Match)
StoredPath = str | bytes


class PathMap:
    """Translates absolute paths to the catalogue's and back, for one index folder."""

    def __init__(self, index: str) -> None:
        base = os.path.dirname(os.path.abspath(index))
        self._prefixes = (_with_slash(base), _with_slash(os.path.realpath(base)))

    def stored(self, path: str) -> StoredPath:
        """Return the catalogue's form of a path, which is made absolute first."""
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
        """Return the absolute path of the catalogue's form. Raises IndexDamaged for one that no system can have."""
        path = os.fsdecode(stored)
        if "\0" in path:
            raise IndexDamaged(f"the catalogue holds a path with a NUL: {stored!r}")
        return os.path.normpath(path if path.startswith("/") else self._prefixes[0] + path)

    def canonical(self, path: str) -> str:
        """Return the one form that a path has here, when a link to the index's folder gives it several."""
        return self.absolute(self.stored(path))


def is_under(path: str, folder: str) -> bool:
    """Whether an absolute path is that folder (or file) or lies below it."""
    return path == folder or path.startswith(_with_slash(folder))


def under(places: Iterable[str]) -> Callable[[str], bool]:
    """Return a test: whether an absolute path is one of these folders or files, or below one; be they a million."""
    known = {place.rstrip("/") for place in places}

    def test(path: str) -> bool:
        while path and path not in known:
            path = path[: path.rfind("/")]
        return path in known

    return test


def shown(path: str, *, here: str) -> str:
    """Return a form of an absolute path that opens from the folder `here`: relative below it, else as it is."""
    prefix = _with_slash(here)
    return path[len(prefix) :] if path.startswith(prefix) and len(path) > len(prefix) else path


def shown_records(records: Iterable[Record]) -> Iterator[Record]:
    """Yield records with their paths as they open from the current folder."""
    here = os.getcwd()
    return (replace(record, path=shown(record.path, here=here)) for record in records)


def _with_slash(folder: str) -> str:
    return folder.rstrip("/") + "/"
