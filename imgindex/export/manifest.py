"""The manifest of a folder of links or copies, as `link_folders` reads and writes it: see sources/exported.py."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field

from imgindex.errors import FolderNotOurs
from imgindex.export.atomic import replacing
from imgindex.sources.exported import FOLDERS_MANIFEST, VERSION, Entry, read_manifest


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
    listed_folders, listed = read_manifest(where)
    paths = {name: os.path.join(where, name) for name in (*listed_folders, *listed)}
    folders = {name for name in listed_folders if os.path.isdir(paths[name]) and not os.path.islink(paths[name])}
    entries = {
        name: entry for name, entry in listed.items() if name.partition("/")[0] in folders and entry.is_at(paths[name])
    }
    return Manifest(folders, entries)
