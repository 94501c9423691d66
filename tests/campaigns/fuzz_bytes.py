"""Shared by the fuzzers: damage to bytes, some of it where formats keep lengths and checksums, and what a fault is."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence

from imgindex.errors import ImgindexError

NUMBERS = (0, 1, 2, 7, 8, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
LAYOUTS = ("<H", ">H", "<I", ">I", "<Q", ">Q")
WORDS = (
    *(b"IHDR PLTE IDAT IEND tRNS acTL fcTL fdAT iCCP eXIf zTXt iTXt pHYs gAMA".split()),
    *(b"RIFF WEBP VP8_ VP8L VP8X ANIM ANMF ALPH EXIF ICCP Exif\0\0 II*\0 MM\0* II+\0".replace(b"_", b" ").split()),
    *(b"ftyp heic avif mif1 meta iloc iinf iprp ipco ispe idat mdat jP__ jp2h ihdr".split()),
    *(b"\xff\xd8 \xff\xc0 \xff\xc2 \xff\xc4 \xff\xda \xff\xdb \xff\xdd \xff\xe0 \xff\xe1 \xff\xee \xff\xd9".split()),
    *(b"GIF87a GIF89a NETSCAPE2.0 8BPS BM DDS DX10 DXT1 BLP2 icns ic10 P6 P5 P7 Pf qoif WIDTH SIMPLE".split()),
    *(b"\xff\x4f\xff\x51 \xff\x52 \xff\x90 \xff\x93 \0\0\1\0 \0\0\2\0 SQLite PK\3\4 PK\1\2 PK\5\6 \x93NUMPY".split()),
    b"!\xf9\x04",
    b"\0" * 16,
    b"\xff" * 16,
)

# The outcome of one use, and the exception if it is a fault.
Outcome = tuple[str, "Exception | None"]
Change = Callable[[bytearray, random.Random, Sequence[bytes]], None]


def tried(what: str, deed: Callable[[], object]) -> Outcome:
    """Call `deed`, and name the outcome: an ImgindexError is allowed, any other exception is a fault."""
    try:
        result = deed()
    except ImgindexError as error:
        return f"{what}: {type(error).__name__}", None
    except Exception as error:  # noqa: BLE001 - any exception is a finding
        return f"{what}: a fault", error
    return f"{what}: {result if isinstance(result, str) else 'works'}", None


def altered(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    """Return the data with one to six changes; others: what may be spliced in."""
    out = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 3, 6))):
        dice.choice(CHANGES)(out, dice, others)
    if out.startswith(b"\x89PNG\r\n\x1a\n") and dice.random() < 0.7:
        return with_right_checksums(bytes(out))
    return bytes(out)


def with_right_checksums(png: bytes) -> bytes:
    """Return a PNG whose chunks have the checksums of what is in them now, so that a reader goes on to read it."""
    out, start = bytearray(png), 8
    while start + 12 <= len(out):
        end = start + 8 + int.from_bytes(out[start : start + 4], "big")
        if end + 4 > len(out):
            break
        out[end : end + 4] = struct.pack(">I", zlib.crc32(out[start + 4 : end]))
        start = end + 4
    return bytes(out)


def _place(data: bytearray, dice: random.Random) -> int:
    """Choose a position: a third anywhere, a third near the beginning, a third near a word that a format knows."""
    if not data:
        return 0
    way = dice.randrange(3)
    if way == 0:
        return dice.randrange(len(data))
    if way == 1:
        return dice.randrange(min(len(data), 128))
    found = data.find(dice.choice(WORDS))
    return min(max(found + dice.randrange(-8, 16), 0), len(data) - 1)


def _flip(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    if data:
        data[_place(data, dice)] ^= 1 << dice.randrange(8)


def _overwrite(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    at = _place(data, dice)
    data[at : at + 1] = dice.randbytes(1)


def _number(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    layout = dice.choice(LAYOUTS)
    limit = 256 ** struct.calcsize(layout)
    number = struct.pack(layout, (dice.choice((*NUMBERS, len(data), len(data) - 1)) + dice.choice((0, 0, 1))) % limit)
    at = _place(data, dice)
    data[at : at + len(number)] = number


def _cut(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    del data[_place(data, dice) :]


def _remove(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    at = _place(data, dice)
    del data[at : at + dice.choice((1, 2, 4, 16, 256))]


def _repeat(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    at = _place(data, dice)
    data[at:at] = data[at : at + dice.choice((1, 4, 16, 256))] * dice.choice((1, 2, 64))


def _word(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    at, word = _place(data, dice), dice.choice(WORDS)
    data[at : at + (len(word) if dice.random() < 0.5 else 0)] = word


def _splice(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    other = dice.choice(others)
    start, at = dice.randrange(len(other) or 1), _place(data, dice)
    part = other[start : start + dice.choice((4, 16, 64, 1024, len(other)))]
    data[at : at + (len(part) if dice.random() < 0.5 else 0)] = part


CHANGES: tuple[Change, ...] = (_flip, _flip, _overwrite, _number, _number, _cut, _remove, _repeat, _word, _splice)
