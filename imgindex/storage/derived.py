"""Derived files: they can always be made again, so a damaged one is never trusted and never an error.

A file appears under its name whole or not at all, and is read only where its bytes are those that were written: what
reads them afterwards (FAISS) does not survive others.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import secrets
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from imgindex.errors import IndexDamaged
from imgindex.storage import durable
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.journal import timestamp

CHUNK = 1 << 20
FOLDER = "search"
# The format of catalogues that know of derived files.
SINCE = 2
# While it is written a file has this ending behind its own and a random one.
UNFINISHED = ".new"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DerivedFile:
    """A derived file as the catalogue knows it: of how many rows of each segment it was made, and what it is (JSON)."""

    name: str
    size: int
    sha256: str
    covered: dict[int, int]
    receipt: str


def all_recorded(catalogue: Catalogue) -> list[DerivedFile]:
    """Return what the catalogue knows of derived files, as far as it makes sense."""
    if catalogue.version < SINCE:
        return []
    files = []
    query = "select name, size, sha256, covered, receipt from derived order by name"
    for name, size, sha256, covered, receipt in catalogue.connection.execute(query):
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            rows = {int(number): int(count) for number, count in json.loads(covered).items()}
            files.append(DerivedFile(name, int(size), sha256.hex(), rows, str(receipt)))
    return files


def record(catalogue: Catalogue, file: DerivedFile, *, instead: Collection[str] = ()) -> None:
    """Let the catalogue know of a derived file that was written, and of those names no more."""
    values = (file.name, file.size, bytes.fromhex(file.sha256), json.dumps(file.covered), file.receipt, timestamp())
    with catalogue.atomic():
        catalogue.connection.executemany("delete from derived where name = ?", ((name,) for name in instead))
        catalogue.connection.execute("insert or replace into derived values (?, ?, ?, ?, ?, ?)", values)


def forget(catalogue: Catalogue, names: Collection[str]) -> None:
    """Let the catalogue forget derived files, if it knows them."""
    if any(file.name in names for file in all_recorded(catalogue)):
        with catalogue.atomic():
            catalogue.connection.executemany("delete from derived where name = ?", ((name,) for name in names))


def write(path: str, writer: Callable[[BinaryIO], None]) -> tuple[str, int]:
    """Let `writer` fill a file that takes the place of `path` once the disk has all of it; return sha256 and size.

    Whatever it raises (OSError on a full disk) leaves the old file in its place and no other behind.
    """
    if os.path.isdir(path):
        raise IndexDamaged(f"{path} is a folder", hint="move it away: the file in its place is made again")
    durable.make_folder(os.path.dirname(path))
    unfinished = f"{path}.{secrets.token_hex(4)}{UNFINISHED}"
    file = _HashedFile(unfinished)
    try:
        with file:
            writer(cast(BinaryIO, file))
        durable.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            durable.remove(unfinished)
        raise
    return file.sha256.hexdigest(), file.size


@contextlib.contextmanager
def opened(path: str, sha256: str, size: int) -> Iterator[BinaryIO | None]:
    """Lend a file for reading, from its start; None where it is missing or not byte for byte what was written.

    The bytes are checked through the descriptor that is lent, so that no other file can come into its place.
    """
    with contextlib.ExitStack() as stack:
        file = None
        try:
            # Unbuffered, so that nothing that was read before the check is handed out after it.
            opening = stack.enter_context(open(path, "rb", buffering=0, opener=_open))
            _check(opening, sha256, size)
            file = cast(BinaryIO, opening)
        except OSError as error:
            logger.info("%s is to be made again: %s", path, error)
        yield file


def sweep(folder: str, keep: Collection[str]) -> None:
    """Remove the files of a folder but those named, also what a killed `write` left; under the lock of writers."""
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise IndexDamaged(f"{folder} is no folder", hint="move it away: what was in it is made again")
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if name not in keep and not os.path.isdir(path):
                durable.remove(path)


def _check(file: io.FileIO, sha256: str, size: int) -> None:
    """Leave the file at its start. Raises OSError unless it is what was written."""
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode) or found.st_size != size:
        raise OSError(f"it is no file of {size} bytes")
    digest, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
    while count := file.readinto(buffer):
        digest.update(buffer[:count])
    if digest.hexdigest() != sha256:
        raise OSError("it has another sha256")
    file.seek(0)


def _open(path: str, flags: int) -> int:
    # Without waiting for somebody to write into it, should it be a pipe.
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


class _HashedFile(io.RawIOBase):
    """A new file that knows the sha256 and the size of what was written to it."""

    def __init__(self, path: str) -> None:
        self.sha256, self.size = hashlib.sha256(), 0
        self._path, self._descriptor = path, durable.disk.open(path, new=True)

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Write all of the data, as the callers of a BinaryIO expect, or raise OSError."""
        view = memoryview(data).cast("B")
        durable.write(self._path, self._descriptor, view, self.size)
        self.sha256.update(view)
        self.size += len(view)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()
