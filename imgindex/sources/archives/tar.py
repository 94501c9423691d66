"""Lists the members of a tar by their headers, and reads one of them by its position, from a compressed tar too.

A compressed tar can only be unpacked from its beginning. `Unpacker` goes forward as far as it is asked to, and begins
again only for a position that it has passed by far.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import weakref
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple, Protocol

from imgindex.sources.archives.members import LARGE, RATIO, TOO_MUCH, ArchiveDamaged, Member
from imgindex.sources.archives.names import member_path
from imgindex.sources.archives.webdataset import MOST_BYTES, is_description
from imgindex.sources.base import BLOCK
from imgindex.sources.selection import ending
from imgindex.sources.signature import HEAD

RECORD = tarfile.BLOCKSIZE
# The fields of a header.
NAME, SIZE, MTIME, CHECKSUM = slice(0, 100), slice(124, 136), slice(136, 148), slice(148, 156)
MAGIC_FIELD, PREFIX, GNU_MAGIC = slice(257, 265), slice(345, 500), b"ustar  \0"
# Bytes that the headers for a long name and the like may have; and the window of zstd.
MOST_HEADER, ZSTD_WINDOW = 64 << 10, 1 << 27
# Bytes that are kept behind the position: several threads ask for members that follow each other, out of order.
WINDOW = 16 << 20
MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"(\xb5/\xfd": "zstd"}
LINKS = {tarfile.LNKTYPE, tarfile.SYMTYPE}
DEVICES = {tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE}
WITHOUT_DATA = LINKS | DEVICES | {tarfile.DIRTYPE}
CUT_OFF = "it is cut off: the rest of its members is unknown"


class Reader(Protocol):
    """The bytes of a tar by their positions; what a reader has passed may be slow to read again."""

    def at(self, offset: int, length: int) -> bytes:
        """Return the bytes at an offset, fewer at the end."""
        ...


class Plain:
    """The bytes of a tar that is not compressed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def at(self, offset: int, length: int) -> bytes:
        parts = []
        while length > 0 and (part := os.pread(self._descriptor, min(length, 1 << 30), offset)):
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class _File(io.RawIOBase):
    """A file of this machine that is read from its beginning, and closed when nothing refers to it any more."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self._close = weakref.finalize(self, os.close, self._descriptor)
        self.position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        read = os.readv(self._descriptor, [buffer])
        self.position += read
        return read

    def info(self) -> os.stat_result:
        return os.fstat(self._descriptor)

    def close(self) -> None:
        super().close()
        self._close()


class Unpacker:
    """The bytes of a compressed tar. Raises ArchiveDamaged for damage, and for a bomb; OSError."""

    def __init__(self, path: str, kind: str) -> None:
        self._path, self._kind = path, kind
        self._begin()

    def _begin(self) -> None:
        self._file = _File(self._path)
        self._stream = _unpacked(self._file, self._kind)
        self.position = 0
        self._damage = ""
        # What was unpacked last, and where it begins.
        self._passed: deque[bytes] = deque()
        self._passed_from = 0

    def at(self, offset: int, length: int) -> bytes:
        if offset < self._passed_from:
            self.close()
            self._begin()
        while self.position < offset:
            if not self._read(min(BLOCK, offset - self.position)):
                return b""
        parts = self._passed_parts(offset, length) if offset < self.position else []
        length -= sum(map(len, parts))
        while length > 0 and (part := self._read(min(BLOCK, length))):
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def _passed_parts(self, offset: int, length: int) -> list[bytes]:
        parts = []
        at = self._passed_from
        for block in self._passed:
            part = block[max(0, offset - at) : max(0, offset + length - at)]
            if part:
                parts.append(part)
            at += len(block)
        return parts

    def _read(self, length: int) -> bytes:
        if self._damage:
            raise ArchiveDamaged(self._damage)  # libraries must not be asked again after an error
        try:
            data = self._stream.read(length)
        except (EOFError, OSError, zlib.error, lzma.LZMAError, ValueError) as error:
            self._damage = f"its compressed bytes are damaged: {error}"
        except Exception as error:
            if type(error).__name__ != "ZstdError":
                raise
            self._damage = f"its compressed bytes are damaged: {error}"
        if self._damage:
            raise ArchiveDamaged(self._damage)
        self.position += len(data)
        self._passed.append(data)
        while self.position - self._passed_from - len(self._passed[0]) > WINDOW:
            self._passed_from += len(self._passed.popleft())
        if self.position > LARGE and self.position > RATIO * self._file.position:
            raise ArchiveDamaged(TOO_MUCH)
        return data

    def check_to_the_end(self) -> None:
        """Read what is left: the checksum is behind it. Raises ArchiveDamaged."""
        while self._read(BLOCK):
            pass

    def info(self) -> os.stat_result:
        """Return the numbers of the file that is being read."""
        return self._file.info()

    def close(self) -> None:
        self._file.close()


def compression(head: bytes) -> str | None:
    """Return how a tar with these first bytes is compressed: gzip, bzip2, xz, zstd; None if it is not."""
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None)


def _unpacked(file: io.RawIOBase, kind: str) -> IO[bytes]:
    openers: dict[str, Callable[[Any], Any]] = {
        "gzip": lambda raw: gzip.GzipFile(fileobj=raw),
        "bzip2": bz2.BZ2File,
        "xz": lzma.LZMAFile,
        "zstd": _zstd,
    }
    opened: IO[bytes] = openers[kind](file)
    return opened


def _zstd(file: io.RawIOBase) -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise ArchiveDamaged("zstandard, which unpacks it, is not installed: pip install zstandard") from error
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    return decompressor.stream_reader(file, read_across_frames=True)


def each_member(reader: Reader, length: int | None) -> Iterator[Member]:
    """Yield the members of a tar, folders left out. Raises ArchiveDamaged, OSError.

    length: bytes of the tar; None where it is compressed. Then the beginning of a member without an ending is kept, and
    what may describe a picture: they cannot be read later without unpacking everything before them. What is wrong with
    one member is its `problem`.
    """
    at = 0
    longer: dict[str, str] = {}
    while True:
        header = reader.at(at, RECORD)
        if len(header) == RECORD and not header.strip(b"\0"):
            return
        if len(header) < RECORD:
            raise ArchiveDamaged(CUT_OFF)
        info = _parsed(header, at)
        data_at = at + RECORD + _sparse_maps(reader, info, header, at + RECORD)
        size = _number(longer.get("size"), info.size)
        if not 0 <= size < 1 << 62 - 1:
            raise ArchiveDamaged("the header of a member is damaged: its size cannot be right")
        following = data_at + (0 if info.type in WITHOUT_DATA else -(-size // RECORD) * RECORD)
        if length is not None and following > -(-length // RECORD) * RECORD:
            raise ArchiveDamaged(CUT_OFF)
        if info.type in _EXTENDING:
            if size > MOST_HEADER:
                raise ArchiveDamaged(f"the header of a member has {size:,} bytes")
            longer |= _EXTENDING[info.type](_whole(reader, data_at, size))
        else:
            path = member_path(longer.get("path", info.name))
            if path and not info.is_folder:
                yield _member(reader, info, path, longer, header, at, data_at, size, keep=length is None)
            longer = {}
        at = following


class _Header(NamedTuple):
    """What the header of a member says."""

    name: str
    size: int
    mtime: int
    type: bytes

    @property
    def is_folder(self) -> bool:
        return self.type == tarfile.DIRTYPE or (self.type == tarfile.AREGTYPE and self.name.endswith("/"))


def _parsed(header: bytes, at: int) -> _Header:
    """Return what a header says; `TarInfo.frombuf` takes three times as long. Raises ArchiveDamaged."""
    try:
        checksum, size, mtime = (_number_in(header[field]) for field in (CHECKSUM, SIZE, MTIME))
    except ValueError as error:
        raise ArchiveDamaged(_damage(at, "a number cannot be read")) from error
    # The sum of all bytes, with spaces in the place of the sum itself; old programs took the bytes as signed.
    unsigned = sum(header) - sum(header[CHECKSUM]) + 8 * ord(" ")
    if checksum != unsigned:
        large = sum(byte > 127 for byte in header) - sum(byte > 127 for byte in header[CHECKSUM])
        if checksum != unsigned - 256 * large:
            raise ArchiveDamaged(_damage(at, "its checksum is wrong"))
    name = header[NAME].split(b"\0", 1)[0]
    # GNU's old format has other fields in the place of the prefix.
    if header[MAGIC_FIELD] != GNU_MAGIC and (prefix := header[PREFIX].split(b"\0", 1)[0]):
        name = prefix + b"/" + name
    return _Header(name.decode("utf-8", "surrogateescape"), size, mtime, header[156:157])


def _damage(at: int, what: str) -> str:
    return f"the header of a member is damaged: {what}" if at else f"it is not a tar: {what}"


def _number_in(field: bytes) -> int:
    """Return the number in a field: octal digits, or behind a marked first byte a binary number. Raises ValueError."""
    if field[0] in (0x80, 0xFF):
        number = int.from_bytes(field[1:], "big")
        return number if field[0] == 0x80 else number - 256 ** (len(field) - 1)
    digits = field.split(b"\0", 1)[0].strip()
    return int(digits, 8) if digits else 0


def _sparse_maps(reader: Reader, info: _Header, header: bytes, at: int) -> int:
    """Return the bytes of the further maps behind the header of a sparse file of GNU's old format."""
    start, more = at, info.type == tarfile.GNUTYPE_SPARSE and header[482]
    while more:
        more = _whole(reader, at, RECORD)[504]
        at += RECORD
    return at - start


def _whole(reader: Reader, at: int, length: int) -> bytes:
    data = reader.at(at, length)
    if len(data) < length:
        raise ArchiveDamaged(CUT_OFF)
    return data


def _member(
    reader: Reader,
    info: _Header,
    path: str,
    longer: dict[str, str],
    header: bytes,
    at: int,
    data_at: int,
    size: int,
    *,
    keep: bool,
) -> Member:
    problem = ""
    if info.type in LINKS:
        problem = "it is a link"
    elif info.type in DEVICES:
        problem = "it is a device"
    elif info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse") for key in longer):
        problem = "it is a sparse file"
    elif info.type not in tarfile.REGULAR_TYPES:
        problem = "it is not a regular file"
    elif size == 0:
        problem = "file is empty"
    data = None
    if keep and not problem and (not ending(path) or is_description(path, size)):
        data = reader.at(data_at, min(size, max(HEAD, MOST_BYTES if is_description(path, size) else 0)))
    mtime_ns = _nanoseconds(longer.get("mtime"), info.mtime)
    # Another member at the same position has another header; the archive's own ctime tells its rewriting.
    return Member(path, size, mtime_ns, f"tar:{at}:{zlib.crc32(header):08x}", data_at, problem=problem, data=data)


def _number(text: str | None, default: int) -> int:
    try:
        return default if text is None else int(text)
    except ValueError:
        return -1


def _nanoseconds(text: str | None, default: float) -> int:
    """Return a time in ns; text: seconds with a fraction, which has more digits than a float."""
    if text is None:
        return _clamped(int(default) * 10**9)
    whole, _, fraction = text.partition(".")
    try:
        return _clamped(int(whole) * 10**9 + int((fraction + "0" * 9)[:9]))
    except ValueError:
        return _clamped(int(default) * 10**9)


def _clamped(number: int) -> int:
    """Return the nearest number of 64 bits: a header may have larger ones."""
    return min(max(number, -(2**63)), 2**63 - 1)


def _pax(data: bytes) -> dict[str, str]:
    """Return the records of a pax header: each is its length, a space, key=value, and a newline."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data):
        digits, space, _ = data[at : at + 20].partition(b" ")
        length = int(digits) if digits.isdigit() and space else 0
        record = data[at + len(digits) + 1 : at + length - 1]
        if length <= len(digits) + 2 or at + length > len(data) or data[at + length - 1 : at + length] != b"\n":
            raise ArchiveDamaged("the header of a member is damaged: a record has a wrong length")
        key, _, value = record.partition(b"=")
        found[os.fsdecode(key)] = value.decode("utf-8", "surrogateescape")
        at += length
    return found


# Headers that say more of the member behind them, and what they say.
_EXTENDING: dict[bytes, Callable[[bytes], dict[str, str]]] = {
    tarfile.GNUTYPE_LONGNAME: lambda data: {"path": data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")},
    tarfile.GNUTYPE_LONGLINK: lambda data: {},
    tarfile.XHDTYPE: _pax,
    tarfile.SOLARIS_XHDTYPE: _pax,
    tarfile.XGLTYPE: lambda data: {},
}
