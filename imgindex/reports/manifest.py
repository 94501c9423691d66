"""What imgindex has made in a folder of links or copies: a small file in it says so, and is believed only so far.

Of what it names, that alone is ours which is still as it was made: a link with the same text, a copy with the same size
and time. Everything else has become somebody's.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass, field

from imgindex.errors import FolderNotOurs
from imgindex.images.find import ARRANGED
from imgindex.reports.files import replacing

NAME = ARRANGED
# A copy has this name, in its folder, until it is whole.
PART = ".imgindex-part"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Made:
    """One thing that was made: a link with its text, or (link is "") a copy with its size and mtime, and of what."""

    source: str
    link: str = ""
    size: int = -1
    mtime_ns: int = -1

    def is_at(self, path: str) -> bool:
        """Whether that is what lies there still."""
        try:
            info = os.lstat(path)
            if self.link:
                return stat.S_ISLNK(info.st_mode) and os.readlink(path) == self.link
        except OSError:
            return False
        return stat.S_ISREG(info.st_mode) and (info.st_size, info.st_mtime_ns) == (self.size, self.mtime_ns)


@dataclass(slots=True)
class Manifest:
    """Folders that were made, by name, and what was made in them, by folder and name: `cats/0.jpg`."""

    folders: set[str] = field(default_factory=set)
    entries: dict[str, Made] = field(default_factory=dict)

    @classmethod
    def read(cls, where: str) -> Manifest:
        """Return what a former run made in the folder `where` and is still as it was made; nothing if there was none.

        Raises FolderNotOurs when the file is not one that imgindex wrote, OSError.
        """
        path = os.path.join(where, NAME)
        try:
            with open(path, encoding="utf-8") as file:
                data = json.load(file)
        except FileNotFoundError:
            return cls()
        except ValueError as error:
            raise _foreign(path) from error
        try:
            if data["version"] != VERSION:
                raise _foreign(path)
            folders = set(map(_one, data["folders"]))
            entries = {name: Made(**made) for name, made in data["made"].items()}
            if any(_one(name.partition("/")[2]) == PART or name.partition("/")[0] not in folders for name in entries):
                raise _foreign(path)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _foreign(path) from error
        folders = {name for name in folders if _is_folder(os.path.join(where, name))}
        still = {
            name: made
            for name, made in entries.items()
            if name.partition("/")[0] in folders and made.is_at(os.path.join(where, name))
        }
        return cls(folders, still)

    def write(self, where: str) -> None:
        """Put this in the place of what the file said; without anything made there is no file. Raises OSError."""
        path = os.path.join(where, NAME)
        if not self.folders:
            if os.path.lexists(path):
                os.unlink(path)
            return
        entries = {name: asdict(made) for name, made in sorted(self.entries.items())}
        data = {
            "what": "made by imgindex: links to images, or copies of them, which it will replace or remove",
            "version": VERSION,
            "folders": sorted(self.folders),
            "made": entries,
        }
        with replacing(path) as file:
            file.write(json.dumps(data, indent=1).encode())


def _one(name: str) -> str:
    """A name that leads nowhere but into its folder. Raises ValueError for another."""
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise ValueError(name)
    return name


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _foreign(path: str) -> FolderNotOurs:
    return FolderNotOurs(f"{path} is not what imgindex writes")
