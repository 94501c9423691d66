"""Which names are those of images and of archives, and what a search passes over, wherever the files are."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache

from imgindex.types import FoundFile, UnnamedFile

# What Pillow 13 decodes by itself, and what plug-ins decode: HEIF (.heic .heif .hif …) and .jxl.
# Left out: formats that need another program (.bufr .eps .grib .h5 .hdf .ps .emf .wmf), films (.mpg .mpeg), formats
# that Pillow only writes (.palm .pdf), and .im, which it is about to drop.
IMAGE_SUFFIXES = frozenset({
    ".apng", ".avif", ".avifs", ".blp", ".bmp", ".bw", ".cur", ".dcx", ".dds", ".dib", ".fit", ".fits", ".flc",
    ".fli", ".ftc", ".ftu", ".gbr", ".gif", ".heic", ".heics", ".heif", ".heifs", ".hif",
    ".icb", ".icns", ".ico", ".iim", ".j2c",
    ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".jxl", ".mpo", ".msp", ".pbm",
    ".pcd", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".pxr", ".qoi", ".ras", ".rgb", ".rgba", ".sgi",
    ".tga", ".tif", ".tiff", ".vda", ".vst", ".webp", ".xbm", ".xpm",
})  # fmt: skip

# Folders that hold no images of the user; and those that an index is in.
NEVER_ENTERED = frozenset({"@eaDir", "node_modules", "__MACOSX", "$RECYCLE.BIN", "System Volume Information"})
INDEX_ENDING = ".imgindex"
# Folders whose names are known to be passed over or not.
FOLDERS = 1 << 12
# A file whose name ends so is taken for an archive.
ARCHIVE_ENDINGS = frozenset({
    ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst",
})  # fmt: skip
_TAR = re.compile(r".(\.tar\.(?:gz|bz2|xz|zst))$", re.IGNORECASE).search
# What names the type of a file: letters and digits after the last dot, but not digits alone, as in "Screenshot at
# 10.15.30"; and a ~ after them, as editors name a file before a change. "a.jpg?width=9" and "a.jpg_large" have none.
_ENDING = re.compile(r".(\.(?!\d+$)[^\W_]{1,10}~?)$").search


def ending(name: str) -> str:
    """Return the ending of a file's name, in lower case and with its dot; "" for a name without one.

    >>> ending("IMG_1.MOV"), ending("set.tar.gz"), ending("Makefile"), ending("Screenshot at 10.15.30")
    ('.mov', '.tar.gz', '', '')
    """
    found = _TAR(name) or _ENDING(name)
    return found[1].lower() if found else ""


@dataclass(slots=True)
class SkippedFiles:
    """What a search passed over in folders, as counts.

    by_ending: files that are not images, by their ending in lower case, "" for those without one. hidden: hidden files
    with the ending of an image. excluded: files and folders that a glob matches. exported: links to images, or copies
    of them, that imgindex made.
    """

    by_ending: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    excluded: int = 0
    exported: int = 0

    def add(self, other: SkippedFiles) -> None:
        """Add the counts of another search."""
        self.by_ending.update(other.by_ending)
        self.hidden += other.hidden
        self.excluded += other.excluded
        self.exported += other.exported


class Selection:
    """What a search looks for, and counts of what it passes over.

    exclude: shell globs, matched against an entry's name and against its path from the root. skip: real paths of
    folders that are not entered. further_endings: endings of images besides IMAGE_SUFFIXES. archives: whether archives
    in folders are searched; one that is a root always is.
    """

    def __init__(
        self,
        *,
        exclude: Sequence[str] = (),
        skip: Sequence[str] = (),
        further_endings: AbstractSet[str] = frozenset(),
        archives: bool = False,
        skipped: SkippedFiles | None = None,
    ) -> None:
        globs = [glob.rstrip("/") for glob in exclude]
        self.skip, self.archives = skip, archives
        # Archives that a search of folders meets, and that are searched behind the folders.
        self.found_archives: list[str] = []
        self.skipped = SkippedFiles() if skipped is None else skipped
        self._endings = IMAGE_SUFFIXES | further_endings
        self._excluded = re.compile("|".join(map(fnmatch.translate, globs))).match if globs else None

    def has_image_ending(self, name: str) -> bool:
        """Return whether a name has the ending of an image."""
        dot = name.rfind(".")
        return dot > 0 and name[dot:].lower() in self._endings

    def is_excluded(self, name: str, relative: str) -> bool:
        """Return whether a glob matches an entry; relative: the path of its folder from the root, "" or "a/b/"."""
        return bool(self._excluded and (self._excluded(name) or self._excluded(relative + name)))


class NameRules:
    """Which files are images by their paths from a root, as in a folder; counts the others. For sources of names."""

    def __init__(self, selection: Selection) -> None:
        self._selection, self._skipped = selection, selection.skipped
        self._is_entered = lru_cache(FOLDERS)(self._is_entered_now)

    def kind(self, path: str) -> type[FoundFile] | None:
        """Return UnnamedFile for a name without an ending, and None for what is passed over; path: from the root."""
        folder, slash, name = path.rpartition("/")
        is_image = self._selection.has_image_ending(name)
        entered = self._is_entered(folder)
        if not entered:
            self._skipped.excluded += entered is None and is_image
        elif is_hidden(name):
            self._skipped.hidden += is_image
        elif self._selection.is_excluded(name, folder + slash):
            self._skipped.excluded += 1
        elif is_image:
            return FoundFile
        elif not (type_ := ending(name)):
            return UnnamedFile
        else:
            self._skipped.by_ending[type_] += 1
        return None

    def _is_entered_now(self, folder: str) -> bool | None:
        """Return whether a folder is searched; None where a glob leaves it out."""
        at = 0
        for name in folder.split("/") if folder else ():
            if is_hidden(name) or name in NEVER_ENTERED or name.endswith(INDEX_ENDING):
                return False
            if self._selection.is_excluded(name, folder[:at]):
                return None
            at += len(name) + 1
        return True


def is_hidden(name: str) -> bool:
    """Return whether a name is that of a hidden file or folder."""
    return name.startswith(".")
