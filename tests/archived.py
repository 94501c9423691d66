"""Writes archives for tests: of a folder's files in each kind, and hostile ones byte by byte."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

# The endings of archives that Python's own library writes.
TARS = {".tar": "w", ".tar.gz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}
KINDS = ("stored.zip", "deflated.zip", *TARS)
CREATED = (2020, 2, 3, 4, 5, 6)


def pack(archive: Path, files: Mapping[str, bytes]) -> Path:
    """Write an archive of these files, by its ending; stored.zip and deflated.zip say how a zip is packed."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    if archive.suffix == ".zip":
        method = zipfile.ZIP_DEFLATED if archive.name.endswith("deflated.zip") else zipfile.ZIP_STORED
        with zipfile.ZipFile(archive, "w", method) as made:
            for name, data in files.items():
                info = zipfile.ZipInfo(name, CREATED)
                info.compress_type = method
                made.writestr(info, data)
        return archive
    mode = next(mode for ending, mode in reversed(TARS.items()) if archive.name.endswith(ending))
    with tarfile.open(archive, mode) as tar:
        for name, data in files.items():
            tar.addfile(tar_header(name, len(data)), io.BytesIO(data))
    return archive


def tar_header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    """The header of a member of a tar."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.type, info.linkname = size, 1_600_000_000, kind, "/etc/passwd"
    return info


def files_below(folder: Path) -> dict[str, bytes]:
    """The files below a folder by their names in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Zip:
    """A zip that is written field by field, so that any of them may lie."""

    def __init__(self) -> None:
        self.body, self.entries = io.BytesIO(), list[bytes]()

    def local(
        self, name: bytes, data: bytes, *, method: int = 0, size: int | None = None, crc: int | None = None
    ) -> int:
        """Write a member, and return where it begins."""
        at = self.body.tell()
        numbers = zlib.crc32(data) if crc is None else crc, len(data), len(data) if size is None else size
        self.body.write(struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, method, 0, 0x5043, *numbers, len(name), 0))
        self.body.write(name + data)
        return at

    def entry(
        self,
        name: bytes,
        at: int,
        packed: int,
        size: int,
        crc: int,
        *,
        method: int = 0,
        flags: int = 0,
        mode: int = 0,
        host: int = 0,
        extra: bytes = b"",
    ) -> None:
        """Write an entry of the directory."""
        numbers = (host << 8 | 20, 20, flags, method, 0, 0x5043, crc, packed, size, len(name), len(extra), 0, 0, 0)
        self.entries.append(struct.pack("<4s6H3L5H2L", b"PK\1\2", *numbers, mode << 16, at) + name + extra)

    def add(self, name: bytes, data: bytes, **claims: int) -> None:
        """Write a member and its entry, which agree unless `claims` (flags, mode, host, size) say otherwise."""
        size = claims.pop("size", len(data))
        self.entry(name, self.local(name, data), len(data), size, zlib.crc32(data), **claims)

    def write(self, path: Path) -> Path:
        directory = b"".join(self.entries)
        count = len(self.entries)
        at = self.body.tell()
        end = b""
        if count > 0xFFFF:
            numbers = 44, 45, 45, 0, 0, count, count, len(directory), at
            end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", *numbers)
            end += struct.pack("<4sLQL", b"PK\6\7", 0, at + len(directory), 1)
        count = min(count, 0xFFFF)
        end += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), at, 0)
        path.write_bytes(self.body.getvalue() + directory + end)
        return path
