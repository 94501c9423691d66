"""Decides whether a file may be written: files that imgindex did not write are not replaced.

A file of ours is recognised by its bytes. A submission of ours looks like any other CSV of ImageID and label, so the
form of a file proves nothing; what imgindex writes is therefore recorded, as a SHA-256 of the path and the content. A
file that was edited, renamed or moved since then is the user's.

The record belongs to the user and lies outside the index: commands that only read do not write to an index, and `bench`
has none. If it is lost, files of ours have to be replaced with overwrite=True once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from typing import IO

from imgindex.decoding.plugins import RAW_ENDINGS
from imgindex.errors import FileNotOurs, ImgindexError, UsageError
from imgindex.export.atomic import is_stream, replacing
from imgindex.sources.content import file_digest
from imgindex.sources.selection import IMAGE_SUFFIXES
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.paths import PathMap, is_under, on_this_machine
from imgindex.storage.store import CATALOGUE

# Pictures, and camera raw files, which are originals too, whether they can be decoded or not.
IMAGE_ENDINGS = IMAGE_SUFFIXES | RAW_ENDINGS | {".raw"}
RECORD = "written"
# The record keeps at least the newest 8,000 files, 65 bytes each.
MOST_BYTES = 1 << 20

State = tuple[int, ...]


@contextlib.contextmanager
def writing(
    path: str, *, overwrite: bool = False, index: str | None = None, sheet: bool = False
) -> Iterator[IO[bytes]]:
    """Write a file as `replacing` does, and record it as ours. Raises as `check_target`, also just before the rename.

    The parameters are those of `check_target`.
    """
    check_target(path, overwrite=overwrite, index=index, sheet=sheet)
    at = on_this_machine(path)
    before = _state(at)

    def approve(temporary: str) -> None:
        # A file may have appeared, or may have been edited, while this one was written.
        if _state(at) != before:
            check_target(path, overwrite=overwrite, index=index, sheet=sheet)
        _record(_key(os.path.realpath(at), file_digest(temporary)))

    with replacing(path, approve=approve) as file:
        yield file


def check_target(path: str, *, overwrite: bool = False, index: str | None = None, sheet: bool = False) -> None:
    """Raise FileNotOurs unless a file may be written: it does not exist, is empty, or is as imgindex wrote it.

    A name with the ending of an image is refused too, except for a contact sheet. Pipes and devices may be written to.
    overwrite: accept all of these. index: the folder of an index: its images are refused whatever their bytes, and its
    own files even with `overwrite`, by UsageError. Raises OSError if the folder of the file does not exist.
    """
    at = on_this_machine(path)
    if is_stream(at):
        return
    real = os.path.realpath(at)
    if index is not None and is_under(real, os.path.realpath(index)):
        raise UsageError(f"{path} lies in the index itself", hint="name a file elsewhere")
    found = _stat(at, path)
    if overwrite or (found is not None and stat.S_ISDIR(found.st_mode)):
        return
    if found is not None and index is not None and _is_image(at, index):
        raise FileNotOurs(f"{path} is an image of the index")
    if not sheet and any(_has_image_ending(name) for name in (at, real)):
        raise FileNotOurs(f"{path} has the ending of an image")
    if found is not None and not _may_be_replaced(real, found):
        raise FileNotOurs(f"{path} exists, and its content was not written by imgindex")


def _stat(path: str, name: str) -> os.stat_result | None:
    """Return the state of a file, None if it does not exist.

    Raises OSError, with the name that the caller gave, if its folder does not exist either.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            return os.stat(path)
        os.stat(os.path.dirname(os.path.realpath(path)))
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from error
    return None


def _has_image_ending(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_ENDINGS


def _may_be_replaced(real: str, found: os.stat_result) -> bool:
    """Whether a file is empty, or is as imgindex wrote it."""
    if not stat.S_ISREG(found.st_mode):
        return False
    if not found.st_size:
        return True
    known = _recorded()
    return bool(known) and _key(real, file_digest(real)) in known


def _is_image(path: str, index: str) -> bool:
    """Whether a file is an image of an index, under this name or another one in its folder."""
    database = os.path.join(index, CATALOGUE)
    if not os.path.isfile(database):
        return False
    real = os.path.realpath(path)
    names = {os.path.abspath(path), real}
    # The command reports an index that cannot be read.
    with contextlib.suppress(OSError, sqlite3.Error, ImgindexError):
        found = os.stat(real)
        # Hard links; and on file systems that ignore case, the name as it is on the disk.
        with os.scandir(os.path.dirname(real)) as entries:
            names |= {entry.path for entry in entries if entry.inode() == found.st_ino}
        with contextlib.closing(Catalogue(database, PathMap(index))) as catalogue:
            return bool(catalogue.known(sorted(names)))
    return False


def _state(path: str) -> State | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _key(path: str, digest: bytes) -> str:
    """Return how a file is recorded; its name cannot be read from that."""
    return hashlib.sha256(os.fsencode(path) + b"\0" + digest).hexdigest()


def _record_path() -> str:
    folder = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(folder, "imgindex", RECORD)


def _recorded() -> set[str]:
    try:
        with open(_record_path(), encoding="ascii", errors="replace") as file:
            return set(file.read().split())
    except OSError:
        return set()


def _record(key: str) -> None:
    """Add a file to the record; without a record, for example if the home folder cannot be written to, do nothing."""
    path = _record_path()
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        # One short line at the end: two processes may write at the same time.
        with open(path, "ab", buffering=0) as file:
            file.write(f"{key}\n".encode())
            size = file.tell()
        if size > MOST_BYTES:
            with open(path, "rb") as file:
                newest = file.read().split()[-MOST_BYTES // 130 :]
            with replacing(path) as file:
                file.write(b"".join(line + b"\n" for line in newest))
