"""Which links and copies in a folder imgindex exported: a manifest in the folder lists them.

A listed file counts as exported only while it is as it was written: a link with the same target, a copy with the same
size and time of change. A file that was edited or replaced since then is the user's.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass

from imgindex.errors import FolderNotOurs

# The name of the manifest, a JSON file.
FOLDERS_MANIFEST = ".imgindex-folders.json"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A link with its target, or a copy (link is "") with its size in bytes and its mtime; source: the image."""

    source: str
    link: str = ""
    size: int = -1
    mtime_ns: int = -1

    def is_at(self, path: str) -> bool:
        """Whether the file at `path` is still as it was written."""
        try:
            info = os.lstat(path)
            if self.link:
                return stat.S_ISLNK(info.st_mode) and os.readlink(path) == self.link
        except OSError:
            return False
        return stat.S_ISREG(info.st_mode) and (info.st_size, info.st_mtime_ns) == (self.size, self.mtime_ns)


def read_manifest(folder: str) -> tuple[set[str], dict[str, Entry]]:
    """Return the folders that imgindex made in a folder, by name, and its links and copies, by FOLDER/FILE.

    Raises FolderNotOurs for a file of that name that is not a manifest, OSError.
    """
    path = os.path.join(folder, FOLDERS_MANIFEST)
    with open(path, "rb") as file:
        text = file.read()
    try:
        data = json.loads(text)
        folders, entries = set(data["folders"]), {name: Entry(**entry) for name, entry in data["made"].items()}
        parts = [name.partition("/") for name in entries]
        # A name with .. or a slash would lead out of the folder.
        names = [*folders, *(name for _, _, name in parts)]
        if data["version"] == VERSION and all(map(_is_name, names)) and folders.issuperset(part[0] for part in parts):
            return folders, entries
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        pass
    raise FolderNotOurs(f"{path} is not a manifest that this version of imgindex wrote")


def exported_names(folder: str) -> dict[str, set[str]]:
    """Return the names of the links and copies in a folder that are as imgindex wrote them, by the folder in it.

    Nothing for a manifest that cannot be read: then the files are the user's.
    """
    try:
        _, entries = read_manifest(folder)
    except (FolderNotOurs, OSError):
        return {}
    names: dict[str, set[str]] = {}
    for name, entry in entries.items():
        if entry.is_at(os.path.join(folder, name)):
            below, _, file = name.partition("/")
            names.setdefault(below, set()).add(file)
    return names


def _is_name(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name
