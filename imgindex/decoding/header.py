"""Reads what a file's header states beside the picture: camera, capture time, lossless or not, further pictures.

Runs in the parent process, so it is bounded: it reads at most BUDGET bytes, in at most MAX_STEPS steps, whatever the
file contains; and searches at most SEARCHED bytes for a film. Damage means that the statement is missing.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from imgindex.errors import UnreadableImage
from imgindex.sources.base import ReadPart
from imgindex.sources.registry import parts

BUDGET = 4 << 20
MAX_STEPS = 20_000
TEXT_BYTES = 64  # of a camera's name
# Where the XMP of a JPEG is searched for the mark of a film behind the picture.
XMP_BYTES = 1 << 17

MAKE, MODEL, EXPOSURE_TIME, F_NUMBER, EXIF_IFD, DATE_TIME_ORIGINAL = 271, 272, 33434, 33437, 34665, 36867
SUBFILE_TYPE, COMPRESSION = 254, 259
# Compressions of a TIFF that lose something: JPEG in both ways, JPEG 2000, WebP, JPEG XL.
LOSSY = frozenset({6, 7, 33003, 33005, 34712, 34892, 50001, 50002, 52546})
TIFF_HEADERS = {b"II*\0": "<", b"MM\0*": ">"}
ASCII, SHORT, LONG = 2, 3, 4
DATE = re.compile(r"([12]\d{3}):([01]\d):([0-3]\d)[ T]([0-2]\d):([0-5]\d):([0-6]\d)")
FILM = re.compile(rb"(?:MotionPhoto|MicroVideo)\s*(?:=\s*[\"']|>)1")
# A film may be there without XMP: behind the mark that Samsung's telephones write, or as a box with a brand of films.
SAMSUNG_FILM, FILE_TYPE = b"MotionPhoto_Data", b"ftyp"
FILM_BRANDS = (b"mp4", b"iso", b"qt  ", b"avc1", b"M4V", b"3gp", b"MSNV")
SEARCHED, BLOCK = 256 << 20, 1 << 20
# Behind the name of the file's own type.
AFTER_FILE_TYPE = 12
# Boxes of HEIC and AVIF beside the picture: the frames of a sequence, the film of a Motion Photo.
FURTHER_BOXES = frozenset({b"moov", b"mpvd"})
# Kinds of items that are pictures; others are EXIF, XMP and the like.
PICTURES = frozenset({b"hvc1", b"av01", b"avc1", b"jpeg", b"j2k1", b"unci", b"grid", b"iden", b"iovl"})
LOSSLESS_SIGNATURES = (b"BM", b"qoif", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"8BPS", b"\x01\xda")


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What the header of an image file states.

    has_camera: its EXIF names a camera or an exposure. taken: the capture time by EXIF as "2019-05-01 12:00:00", else
    "". is_lossless: the file keeps every pixel as it was. has_more: it has pages, frames or a film beside its picture.
    """

    has_camera: bool = False
    taken: str = ""
    is_lossless: bool = False
    has_more: bool = False


def read_header(path: str) -> FileHeader:
    """Return what the header of a file states; nothing, as in FileHeader(), for a file that cannot be read."""
    try:
        with parts(path) as read_part:
            return _read(_Reader(read_part))
    except (OSError, ValueError, UnreadableImage):
        return FileHeader()


class _Exhausted(Exception):
    """The header is longer than what is read of a file."""


class _Reader:
    """Reads parts of an open file, up to the budget."""

    def __init__(self, read_part: ReadPart) -> None:
        self._read_part, self._bytes, self._steps = read_part, BUDGET, MAX_STEPS

    def at(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at an offset, fewer at the end of the file."""
        self._bytes -= length
        self._steps -= 1
        if self._bytes < 0 or self._steps < 0 or not 0 <= offset < 1 << 62:
            raise _Exhausted
        return self._read_part(offset, length)

    def has_film(self, start: int) -> bool:
        """Return whether a film begins behind `start`; True for a file that is too long to be searched to its end."""
        rest = b""
        for offset in range(start, start + SEARCHED, BLOCK):
            read = self._read_part(offset, BLOCK)
            if not read:
                return False
            block = rest + read
            if SAMSUNG_FILM in block or _begins_film(block):
                return True
            rest = block[-len(SAMSUNG_FILM) :]
        return True


def _begins_film(block: bytes) -> bool:
    at = block.find(FILE_TYPE)
    while at >= 0:
        if block.startswith(FILM_BRANDS, at + len(FILE_TYPE)):
            return True
        at = block.find(FILE_TYPE, at + 1)
    return False


@dataclass(slots=True)
class _Found:
    """What was found so far; exif: offset of a TIFF structure with the EXIF in the file."""

    exif: int | None = None
    is_lossless: bool = False
    has_more: bool = False


def _read(reader: _Reader) -> FileHeader:
    found = _Found()
    tags: dict[int, str | int] = {}
    try:
        start = reader.at(0, 16)
        if start[:4] in TIFF_HEADERS:
            _walk_tiff(reader, found)
        elif walk := _walk_of(start):
            walk(reader, found)
        else:
            found.is_lossless = start.startswith(LOSSLESS_SIGNATURES)
        if found.exif is not None:
            tags = _exif(reader, found.exif)
    except _Exhausted:
        # Too long to be read to its end, such as a film as a GIF.
        found.has_more = True
    except (struct.error, IndexError, ValueError):
        pass
    camera = any(str(tags.get(tag, "")).strip() for tag in (MAKE, MODEL, EXPOSURE_TIME, F_NUMBER))
    return FileHeader(camera, _date(str(tags.get(DATE_TIME_ORIGINAL, ""))), found.is_lossless, found.has_more)


def _walk_of(start: bytes) -> Callable[[_Reader, _Found], None] | None:
    if start.startswith(b"\xff\xd8"):
        return _walk_jpeg
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return _walk_png
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return _walk_webp
    if start.startswith(b"GIF8"):
        return _walk_gif
    return _walk_boxes if start[4:8] == b"ftyp" else None


def _date(text: str) -> str:
    match = DATE.match(text)
    return "{}-{}-{} {}:{}:{}".format(*match.groups()) if match and match[1] > "1800" else ""


# Each kind of file.


def _walk_jpeg(reader: _Reader, found: _Found) -> None:
    at = 2
    while True:
        head = reader.at(at, 10)
        marker = head[1]
        if head[0] != 0xFF or marker in (0xD9, 0xDA):
            break
        if marker == 0xFF:  # a byte to fill up
            at += 1
            continue
        (length,) = struct.unpack(">H", head[2:4])
        if marker == 0xE1 and head[4:10] == b"Exif\0\0" and found.exif is None:
            found.exif = at + 10
        at += 2 + length
    found.has_more = FILM.search(reader.at(0, XMP_BYTES)) is not None or reader.has_film(at)


def _walk_png(reader: _Reader, found: _Found) -> None:
    at = 8
    while True:
        head = reader.at(at, 18)
        (length,), kind = struct.unpack(">I", head[:4]), head[4:8]
        if kind == b"IHDR":
            found.is_lossless = head[17] != 3  # a palette has at most 256 colours
        elif kind == b"acTL":
            found.has_more = True
        elif kind == b"eXIf":
            found.exif = at + 8
        elif kind == b"IEND":
            return
        at += 12 + length


def _walk_webp(reader: _Reader, found: _Found) -> None:
    at = 12
    while len(head := reader.at(at, 9)) >= 8:
        kind, (length,) = head[:4], struct.unpack("<I", head[4:8])
        if kind == b"VP8X":
            found.has_more = bool(head[8] & 2)
        elif kind == b"VP8L":
            found.is_lossless = True
        elif kind == b"EXIF":
            found.exif = at + 8
        at += 8 + length + length % 2


def _walk_gif(reader: _Reader, found: _Found) -> None:
    data, at, pictures = reader.at(0, BUDGET // 2), 13, 0

    def after_palette(at: int, flags: int) -> int:
        return at + (flags >> 7) * 3 * (2 << flags % 8)

    at = after_palette(at, data[10])
    while at < len(data) and data[at] in (0x21, 0x2C):
        if data[at] == 0x2C:
            pictures += 1
            at = after_palette(at + 10, data[at + 9]) + 1
        else:
            at += 2
        while data[at]:
            at += 1 + data[at]
        at += 1
    found.has_more = pictures > 1 or len(data) == BUDGET // 2


def _walk_boxes(reader: _Reader, found: _Found) -> None:
    """Find the EXIF of HEIC and AVIF, whose place another box has; and whether there are further pictures or a film."""
    at, meta = 0, b""
    while len(head := reader.at(at, 16)) >= 8:
        (length,), kind = struct.unpack(">I", head[:4]), head[4:8]
        if length == 1:
            (length,) = struct.unpack(">Q", head[8:16])
        if kind == b"meta" and not meta:
            meta = reader.at(at + 12, min(length, 1 << 20) - 12)
        found.has_more |= kind in FURTHER_BOXES
        if length < 8:
            break
        at += length
    boxes = dict(_boxes(meta))
    items = dict(_items(boxes.get(b"iinf", b"")))
    pictures = {id for id, (kind, hidden) in items.items() if kind in PICTURES and not hidden}
    found.has_more |= len(pictures - _parts(boxes.get(b"iref", b""))) > 1 or reader.has_film(AFTER_FILE_TYPE)
    exif = next((id for id, (kind, _) in items.items() if kind == b"Exif"), None)
    place = None if exif is None else _place(boxes.get(b"iloc", b""), exif)
    if place is not None:
        (skipped,) = struct.unpack(">I", reader.at(place, 4))
        found.exif = place + 4 + skipped


def _items(iinf: bytes) -> Iterator[tuple[int, tuple[bytes, bool]]]:
    """Yield the number of each item, with its kind, and whether it is hidden."""
    for kind, entry in _boxes(iinf[6:] if iinf[:1] == b"\0" else iinf[8:]):
        id_end = 8 if entry[:1] == b"\x03" else 6  # the version decides how long an item's number is
        if kind == b"infe":
            hidden = bool(entry[3:4] and entry[3] & 1)
            yield int.from_bytes(entry[4:id_end], "big"), (entry[id_end + 2 : id_end + 6], hidden)


def _parts(iref: bytes) -> set[int]:
    """Return the items that are thumbnails, masks and the like of another one, or parts that it is made of."""
    size = 4 if iref[:1] == b"\1" else 2
    found: set[int] = set()
    for kind, reference in _boxes(iref[4:]):
        numbers = [
            int.from_bytes(reference[at : at + size], "big") for at in (0, *range(size + 2, len(reference), size))
        ]
        found.update(numbers[:1] if kind in (b"thmb", b"auxl") else numbers[1:] if kind == b"dimg" else ())
    return found


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        if length < 8:
            return
        yield data[at + 4 : at + 8], data[at + 8 : at + length]
        at += length


def _place(iloc: bytes, wanted: int) -> int | None:
    """Return the offset in the file of the first extent of an item."""
    version, at = iloc[0], 6
    offset_size, length_size, base_size = iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4
    index_size = iloc[5] & 15 if version else 0
    id_size = 4 if version == 2 else 2

    def number(size: int) -> int:
        nonlocal at
        at += size
        if at > len(iloc):
            raise IndexError
        return int.from_bytes(iloc[at - size : at], "big")

    for _ in range(number(id_size)):
        item, method = number(id_size), number(2) & 15 if version else 0
        number(2)
        base, extents = number(base_size), number(2)
        for extent in range(extents):
            number(index_size)
            offset = base + number(offset_size)
            number(length_size)
            if item == wanted and extent == 0 and method == 0:
                return offset
    return None


def _walk_tiff(reader: _Reader, found: _Found) -> None:
    order = TIFF_HEADERS[reader.at(0, 4)]
    (at,) = struct.unpack(f"{order}I", reader.at(4, 4))
    first, following = _tags(reader, 0, at, order)
    found.is_lossless = first.get(COMPRESSION, 1) not in LOSSY
    while following and not found.has_more:
        page, following = _tags(reader, 0, following, order)
        # Smaller versions of a page and masks are not pages.
        found.has_more = not int(page.get(SUBFILE_TYPE, 0)) & 5
    found.exif = 0


def _exif(reader: _Reader, start: int) -> dict[int, str | int]:
    """Return the wanted tags of a TIFF structure at an offset of the file."""
    head = reader.at(start, 8)
    if head.startswith(b"Exif\0\0"):  # written twice by some programs
        start += 6
        head = reader.at(start, 8)
    order = TIFF_HEADERS.get(head[:4])
    if order is None:
        return {}
    tags, _ = _tags(reader, start, struct.unpack(f"{order}I", head[4:])[0], order)
    below = tags.get(EXIF_IFD)
    if isinstance(below, int):
        tags |= _tags(reader, start, below, order)[0]
    return tags


WANTED = frozenset({
    MAKE, MODEL, EXPOSURE_TIME, F_NUMBER, EXIF_IFD, DATE_TIME_ORIGINAL, SUBFILE_TYPE, COMPRESSION
})  # fmt: skip


def _tags(reader: _Reader, start: int, offset: int, order: str) -> tuple[dict[int, str | int], int]:
    """Return the wanted tags of one directory, and the offset of the next one, 0 for none."""
    (count,) = struct.unpack(f"{order}H", reader.at(start + offset, 2))
    data = reader.at(start + offset + 2, 12 * count + 4)
    tags: dict[int, str | int] = {}
    for at in range(0, min(12 * count, len(data) - 11), 12):
        tag, kind, length, value = struct.unpack(f"{order}HHI4s", data[at : at + 12])
        if tag not in WANTED:
            continue
        if kind == ASCII:
            (place,) = struct.unpack(f"{order}I", value)
            text = value[:length] if length <= 4 else reader.at(start + place, min(length, TEXT_BYTES))
            tags[tag] = text.split(b"\0")[0].decode("ascii", "replace")
        elif kind in (SHORT, LONG):
            (tags[tag],) = struct.unpack(f"{order}{'H' if kind == SHORT else 'I'}", value[: 2 * kind - 4])
        else:
            tags[tag] = "rational"  # an exposure: that it is there says enough
    rest = data[12 * count :]
    following: int = struct.unpack(f"{order}I", rest)[0] if len(rest) == 4 else 0
    return tags, following
