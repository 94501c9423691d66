"""The manifest of a folder of links or copies: a JSON file in it that lists what imgindex wrote there.

A listed file counts as ours only while it is as it was written: a link with the same target, a copy with the same size
and time of change. A file that was edited or replaced since then is the user's.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass, field

from imgindex.errors import FolderNotOurs
from imgindex.export.atomic import replacing
from imgindex.sources.local import FOLDERS_MANIFEST

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


@dataclass(slots=True)
class Manifest:
    """The folders that imgindex made, by name, and its links and copies, by FOLDER/FILE."""

    folders: set[str] = field(default_factory=set)
    entries: dict[str, Entry] = field(default_factory=dict)

    def write(self, where: str) -> None:
        """Write the manifest of the folder `where`, in place of the one that is there. Raises OSError."""
        data = {
            "what": "made by imgindex: links to images, or copies of them, which it will replace or remove",
            "version": VERSION,
            "folders": sorted(self.folders),
            "made": {name: asdict(entry) for name, entry in sorted(self.entries.items())},
        }
        with replacing(os.path.join(where, FOLDERS_MANIFEST)) as file:
            file.write(json.dumps(data, indent=1).encode())


def read(where: str, *, overwrite: bool = False) -> Manifest:
    """Return what imgindex wrote in the folder `where` and is still as it was written; nothing for an empty folder.

    overwrite: also accept a folder that has files but no manifest; nothing in it is ours.

    Raises FolderNotOurs when the folder has files but no manifest, or a file of that name that is not a manifest;
    OSError.
    """
    try:
        names = os.listdir(where)
    except FileNotFoundError:
        return Manifest()
    if FOLDERS_MANIFEST not in names:
        if names and not overwrite:
            raise FolderNotOurs(f"{where} has files that imgindex did not write")
        return Manifest()
    path = os.path.join(where, FOLDERS_MANIFEST)
    with open(path, "rb") as file:
        manifest = _parse(file.read(), path)
    paths = {name: os.path.join(where, name) for name in (*manifest.folders, *manifest.entries)}
    folders = {name for name in manifest.folders if os.path.isdir(paths[name]) and not os.path.islink(paths[name])}
    entries = {
        name: entry
        for name, entry in manifest.entries.items()
        if name.partition("/")[0] in folders and entry.is_at(paths[name])
    }
    return Manifest(folders, entries)


def _parse(text: bytes, path: str) -> Manifest:
    try:
        data = json.loads(text)
        folders, entries = set(data["folders"]), {name: Entry(**entry) for name, entry in data["made"].items()}
        parts = [name.partition("/") for name in entries]
        # A name with .. or a slash would lead out of the folder.
        names = [*folders, *(name for _, _, name in parts)]
        if data["version"] == VERSION and all(map(_is_name, names)) and folders.issuperset(part[0] for part in parts):
            return Manifest(folders, entries)
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    raise FolderNotOurs(f"{path} is not a manifest that this version of imgindex wrote")


def _is_name(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name
