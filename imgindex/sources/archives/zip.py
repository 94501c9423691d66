"""Lists the members of a zip by its central directory, and reads one of them by its position.

The directory is a claim: what a member really has is compared with it while it is read. The format is PKWARE's APPNOTE.
"""

from __future__ import annotations

import calendar
import functools
import os
import stat
import struct
import zlib
from collections.abc import Iterator

from imgindex.errors import UnreadableImage
from imgindex.sources.archives.members import LARGE, RATIO, TOO_MUCH, ArchiveDamaged, Member
from imgindex.sources.archives.names import member_path
from imgindex.sources.base import BLOCK

# Signatures and sizes of the parts of a zip.
MEMBER, ENTRY, END, END64, LOCATOR = b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7"
_MEMBER, _ENTRY = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L")
_END, _END64, _LOCATOR = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_LENGTHS = struct.Struct("<3H")
# The most members, and bytes of a comment, that the short end of a zip can have.
COUNT, COMMENT = 0xFFFF, 0xFFFF
IN_EXTRA = 0xFFFFFFFF  # the number does not fit, and is in an extra field
MOST = 1 << 61  # no file has more bytes
ZIP64, TIME, UNICODE_PATH = 0x0001, 0x5455, 0x7075
STORED, DEFLATED = 0, 8
METHODS = {1: "shrunk", 6: "imploded", 9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 95: "xz", 99: "AES"}
ENCRYPTED = 0x1 | 0x40 | 0x2000
UTF8 = 0x800
DOS, UNIX = 0, 3
DIRECTORY_DAMAGED, ENTRY_DAMAGED = "its directory is damaged", "its entry in the directory is damaged"
_NO_FIELDS: dict[int, bytes] = {}


def each_member(descriptor: int) -> Iterator[Member]:
    """Yield the members of a zip, folders left out. Raises ArchiveDamaged, at the latest behind the last member.

    What is wrong with one member is its `problem`.
    """
    start, size, shift, count, is_exact = directory(descriptor)
    position, rest, seen = start, b"", 0
    while position < start + size or rest:
        block = os.pread(descriptor, min(BLOCK, start + size - position), position)
        position += len(block)
        rest += block
        at = 0
        while (following := _entry_end(rest, at)) <= len(rest):
            member = _member(rest, at, shift)
            seen += 1
            if member is not None:
                yield member
            at = following
        rest = rest[at:]
        if not block:
            raise ArchiveDamaged(DIRECTORY_DAMAGED)
    # Old programs counted members in 16 bits.
    if seen != count and (is_exact or (seen - count) % (COUNT + 1)):
        raise ArchiveDamaged(f"its directory has {seen:,} members, and its end says {count:,}")


def directory(descriptor: int) -> tuple[int, int, int, int, bool]:
    """Return where the directory of a zip begins, its bytes, those before the zip in the file, and its entries.

    The last value is whether their number is exact. Raises ArchiveDamaged.
    """
    length = os.fstat(descriptor).st_size
    tail_at = max(0, length - COMMENT - _END.size)
    tail = os.pread(descriptor, length - tail_at, tail_at)
    at = _end_of_zip(tail)
    _, disk, first_disk, _, count, size, offset, _ = _END.unpack_from(tail, at)
    end = tail_at + at
    is_exact = False
    locator = os.pread(descriptor, _LOCATOR.size, end - _LOCATOR.size) if end >= _LOCATOR.size else b""
    if locator.startswith(LOCATOR) and len(locator) == _LOCATOR.size:
        _, _, where, _ = _LOCATOR.unpack(locator)
        # Something before the zip, such as a program that unpacks it, shifts all positions.
        for place in (where, end - _LOCATOR.size - _END64.size):
            record = os.pread(descriptor, _END64.size, place) if 0 <= place <= length else b""
            if record.startswith(END64) and len(record) == _END64.size:
                _, _, _, _, disk, first_disk, _, count, size, offset = _END64.unpack(record)
                end, is_exact = place, True
                break
        else:
            raise ArchiveDamaged("its end is damaged")
    if disk or first_disk:
        raise ArchiveDamaged("it is a part of a zip of several files")
    shift = end - size - offset
    if shift < 0:
        raise ArchiveDamaged("its end is damaged")
    return offset + shift, size, shift, count, is_exact


def _end_of_zip(tail: bytes) -> int:
    """Return where the record is that ends a zip; the comment behind it may contain the signature too."""
    last = at = tail.rfind(END, 0, max(0, len(tail) - _END.size + len(END)))
    if at < 0:
        raise ArchiveDamaged("it has no end of a zip: it is cut off, or something else")
    while at >= 0:
        if at + _END.size + _END.unpack_from(tail, at)[7] == len(tail):
            return at
        at = tail.rfind(END, 0, at)
    return last


def _entry_end(data: bytes, at: int) -> int:
    """Return where an entry of the directory ends, or beyond the data if it has only a part of it."""
    if len(data) - at < _ENTRY.size:
        return len(data) + 1
    if not data.startswith(ENTRY, at):
        raise ArchiveDamaged(DIRECTORY_DAMAGED)
    name, extra, comment = _LENGTHS.unpack_from(data, at + 28)
    return at + _ENTRY.size + int(name + extra + comment)


def _member(data: bytes, at: int, shift: int) -> Member | None:
    fields = _ENTRY.unpack_from(data, at)
    _, made_by, _, flags, method, time, date, crc, packed, size, name_length, extra_length = fields[:12]
    attributes, offset = fields[15:]
    at += _ENTRY.size + name_length
    raw_name = data[at - name_length : at]
    parts, broken = _extra_fields(data[at : at + extra_length]) if extra_length else (_NO_FIELDS, False)
    if IN_EXTRA in (size, packed, offset):
        zip64 = parts.get(ZIP64, b"")
        large = iter(struct.unpack_from(f"<{len(zip64) // 8}Q", zip64))
        size, packed, offset = (next(large, IN_EXTRA) if one == IN_EXTRA else one for one in (size, packed, offset))
    path = member_path(_name(raw_name, flags, made_by >> 8, parts.get(UNICODE_PATH)))
    if raw_name.endswith(b"/") or not path:
        return None
    problem = _problem(flags, attributes >> 16, method, size, packed)
    if broken or max(size, packed, offset) >= MOST:
        problem, size, packed, offset = ENTRY_DAMAGED, 0, 0, 0
    mtime_ns = _mtime_ns(date, time, parts.get(TIME))
    return Member(path, size, mtime_ns, f"crc32:{crc:08x}", offset + shift, packed, method, raw_name, problem)


def _problem(flags: int, mode: int, method: int, size: int, packed: int) -> str:
    """Return why a member cannot be read, by its entry in the directory; "" if it may be read."""
    if flags & ENCRYPTED:
        return "it is encrypted"
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
        return "it is a link" if stat.S_ISLNK(mode) else "it is not a regular file"
    if method not in {STORED, DEFLATED}:
        return f"it is compressed by a method that is not read: {METHODS.get(method, f'number {method}')}"
    if size > LARGE and size > RATIO * packed:
        return TOO_MUCH
    if method == STORED and packed != size:
        return ENTRY_DAMAGED
    return "" if size else "file is empty"


def _extra_fields(extra: bytes) -> tuple[dict[int, bytes], bool]:
    """Return the extra fields by their kind, and whether one of them is longer than there are bytes."""
    fields: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if at + 4 + length > len(extra):
            # Padding that aligns members is written so too; only what is needed has to be whole.
            return fields, kind == ZIP64
        fields.setdefault(kind, extra[at + 4 : at + 4 + length])
        at += 4 + length
    return fields, False


def _name(raw: bytes, flags: int, host: int, unicode_path: bytes | None) -> str:
    """Return a name as text: UTF-8 where it is marked or can be nothing else, otherwise code page 437."""
    if flags & UTF8:
        return raw.decode("utf-8", "surrogateescape")
    if unicode_path and len(unicode_path) > 5 and unicode_path[1:5] == struct.pack("<L", zlib.crc32(raw)):
        return unicode_path[5:].decode("utf-8", "surrogateescape")
    try:
        # Programs for Unix write UTF-8 without the mark.
        name = raw.decode("utf-8") if host != DOS else raw.decode("ascii")
    except UnicodeDecodeError:
        name = raw.decode("cp437")
    # Some programs for Windows separate folders by backslashes, against the format.
    return name.replace("\\", "/") if host == DOS and "/" not in name else name


def _mtime_ns(date: int, time: int, extended: bytes | None) -> int:
    """Return the time of a member in ns: in UTC by its extra field, else its local time as if it were UTC."""
    if extended and extended[0] & 1 and len(extended) >= 5:
        seconds: int = struct.unpack_from("<l", extended, 1)[0]
    else:
        seconds = _day(date) + (time >> 11) * 3600 + (time >> 5 & 63) * 60 + (time & 31) * 2
    return seconds * 10**9


@functools.lru_cache(maxsize=1024)
def _day(date: int) -> int:
    """Return the second in which a day begins; that of 1980 for a day that does not exist."""
    try:
        return calendar.timegm((1980 + (date >> 9), date >> 5 & 15, date & 31, 0, 0, 0))
    except ValueError:
        return calendar.timegm((1980, 1, 1, 0, 0, 0))


def end(member: Member) -> int:
    """Return where a member of a zip ends, at the earliest: its header may have more than its name."""
    return member.offset + _MEMBER.size + len(member.raw_name) + member.packed


def read_member(descriptor: int, member: Member, *, most: int | None = None) -> bytes:
    """Return the content of a member, or its first `most` bytes. Raises UnreadableImage, OSError.

    Unpacking ends one byte beyond the size that the directory promises.
    """
    header = os.pread(descriptor, _MEMBER.size + len(member.raw_name), member.offset)
    if len(header) < _MEMBER.size or not header.startswith(MEMBER):
        raise UnreadableImage("its header in the archive is damaged", stage="read")
    *_, name_length, extra_length = _MEMBER.unpack_from(header)
    if header[_MEMBER.size :] != member.raw_name or name_length != len(member.raw_name):
        raise UnreadableImage("its header in the archive has another name than the directory", stage="read")
    start = member.offset + _MEMBER.size + name_length + extra_length
    wanted = member.size if most is None else min(most, member.size)
    if member.method == STORED:
        data = _pread(descriptor, wanted, start)
    else:
        data = _inflate(descriptor, start, member.packed, wanted if most is not None else member.size + 1)
    if most is not None:
        return data[:most]
    if len(data) > member.size:
        raise UnreadableImage("it unpacks to more bytes than the archive's directory promises", stage="read")
    if len(data) < member.size:
        raise UnreadableImage("it has fewer bytes than the archive's directory promises", stage="read")
    if f"crc32:{zlib.crc32(data):08x}" != member.version:
        raise UnreadableImage("its bytes do not have the checksum of the archive's directory", stage="read")
    return data


def _pread(descriptor: int, length: int, offset: int) -> bytes:
    """Return `length` bytes, fewer at the end of the file; the system reads at most 2 GiB at once."""
    parts = []
    while length > 0 and (part := os.pread(descriptor, min(length, 1 << 30), offset)):
        parts.append(part)
        length -= len(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _inflate(descriptor: int, start: int, packed: int, most: int) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    parts, left = [], most
    try:
        while left > 0 and packed > 0 and not inflater.eof:
            block = os.pread(descriptor, min(BLOCK, packed), start)
            if not block:
                break
            start += len(block)
            packed -= len(block)
            while block and left > 0:
                part = inflater.decompress(block, left)
                parts.append(part)
                left -= len(part)
                block = inflater.unconsumed_tail
    except zlib.error as error:
        raise UnreadableImage(f"its compressed bytes are damaged: {error}", stage="read") from error
    return parts[0] if len(parts) == 1 else b"".join(parts)
