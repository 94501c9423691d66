"""Reads and writes derived files. They can be made again at any time, so a damaged one is ignored, without an error.

A file appears under its name when it is complete, and is read only if its bytes are those that were written: FAISS,
which parses them, crashes on damaged data.
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
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

from imgindex.errors import IndexDamaged
from imgindex.storage import durable
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.ledger import timestamp

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CHUNK = 1 << 20
FOLDER = "search"
# The first format of catalogues that record derived files.
SINCE = 2
# A file that is being written has the name of the file, a random part and this ending.
UNFINISHED = ".new"

logger = logging.getLogger(__name__)

Metadata = TypeVar("Metadata", bound="DataclassInstance")


def read_metadata(kind: type[Metadata], text: str, what: str) -> Metadata:
    """Return the dataclass of that kind whose fields are in the JSON of a provenance. what: the file, for the error.

    Raises ValueError unless the JSON has exactly these fields, each with a value of its own type.
    """
    data = json.loads(text)
    kinds = {field.name: field.type for field in fields(kind)}
    if not isinstance(data, dict) or {name: type(value).__name__ for name, value in data.items()} != kinds:
        raise ValueError(f"not the metadata of {what}: {text[:200]}")
    return kind(**data)


@dataclass(frozen=True, slots=True)
class DerivedFile:
    """A derived file as the catalogue records it.

    covered: segment number → rows that it was made from. provenance: JSON of the part of imgindex that made it.
    """

    name: str
    size: int
    sha256: str
    covered: dict[int, int]
    provenance: str


def all_recorded(catalogue: Catalogue) -> list[DerivedFile]:
    """Return the derived files that the catalogue records; damaged records are left out."""
    import msgspec

    if catalogue.version < SINCE:
        return []
    files = []
    query = "select name, size, sha256, covered, receipt from derived order by name"
    for name, size, sha256, covered, receipt in catalogue.connection.execute(query):
        with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):
            rows = msgspec.json.decode(covered, type=dict[int, int])
            files.append(DerivedFile(name, int(size), sha256.hex(), rows, str(receipt)))
    return files


def record(catalogue: Catalogue, file: DerivedFile, *, instead: Collection[str] = ()) -> None:
    """Record a derived file in the catalogue, in the place of those with the names `instead`."""
    values = (file.name, file.size, bytes.fromhex(file.sha256), json.dumps(file.covered), file.provenance, timestamp())
    with catalogue.atomic():
        catalogue.connection.executemany("delete from derived where name = ?", ((name,) for name in instead))
        catalogue.connection.execute("insert or replace into derived values (?, ?, ?, ?, ?, ?)", values)


def forget(catalogue: Catalogue, names: Collection[str]) -> None:
    """Delete derived files from the catalogue, if it has them."""
    if any(file.name in names for file in all_recorded(catalogue)):
        with catalogue.atomic():
            catalogue.connection.executemany("delete from derived where name = ?", ((name,) for name in names))


def write(path: str, writer: Callable[[BinaryIO], None]) -> tuple[str, int]:
    """Replace `path` with what `writer` writes to a file, once the disk has all of it; return its sha256 and size.

    If anything is raised (OSError on a full disk), the old file stays and no other file is left.
    """
    if os.path.isdir(path):
        raise IndexDamaged(f"{path} is a folder", hint="move it away: the next `add` makes the file again")
    durable.make_folder(os.path.dirname(path))
    unfinished = f"{path}.{secrets.token_hex(4)}{UNFINISHED}"
    with durable.replacing(path, temporary=unfinished) as descriptor, _HashedFile(unfinished, descriptor) as file:
        writer(cast(BinaryIO, file))
    return file.sha256.hexdigest(), file.size


@contextlib.contextmanager
def opened(path: str, sha256: str, size: int, *, silent: bool = False) -> Iterator[BinaryIO | None]:
    """Lend a file for reading from its start; None where it is missing or does not have the bytes that were written.

    The bytes are checked through the descriptor that is lent, so that no other file can take its place in between.
    silent: the user need not know, because the caller makes the file again at once.
    """
    with contextlib.ExitStack() as stack:
        file = None
        try:
            # Unbuffered, so that no bytes that were read before the check are returned after it.
            opening = stack.enter_context(open(path, "rb", buffering=0, opener=_open))
            _check(opening, sha256, size)
            file = cast(BinaryIO, opening)
        except OSError as error:
            logger.log(logging.DEBUG if silent else logging.INFO, "%s has to be made again: %s", path, error)
        yield file


def sweep_unrecorded(catalogue: Catalogue, folder: str) -> None:
    """Remove all files of a folder that the catalogue does not record, as `sweep` does."""
    sweep(folder, {file.name for file in all_recorded(catalogue)})


def sweep(folder: str, keep: Collection[str]) -> None:
    """Remove all files of a folder except `keep`, also those of a `write` that was killed; the caller has the lock."""
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise IndexDamaged(f"{folder} is not a folder", hint="move it away: the next `add` makes the folder again")
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if name not in keep and not os.path.isdir(path):
                durable.remove(path)


def _check(file: io.FileIO, sha256: str, size: int) -> None:
    """Check size and sha256 of a file, and go back to its start. Raises OSError unless both are as given."""
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode) or found.st_size != size:
        raise OSError(f"it is not a file of {size} bytes")
    digest, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
    while count := file.readinto(buffer):
        digest.update(buffer[:count])
    if digest.hexdigest() != sha256:
        raise OSError("it has another sha256")
    file.seek(0)


def _open(path: str, flags: int) -> int:
    # O_NONBLOCK: if it is a pipe, do not wait for a process that writes into it.
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


class _HashedFile(io.RawIOBase):
    """Writes to the descriptor of an empty file, and computes the sha256 and the size of what was written."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.sha256, self.size = hashlib.sha256(), 0
        self._path, self._descriptor = path, descriptor

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Write all of the data, as the callers of a BinaryIO expect, or raise OSError."""
        view = memoryview(data).cast("B")
        durable.write(self._path, self._descriptor, view, self.size)
        self.sha256.update(view)
        self.size += len(view)
        return len(data)
