"""Text in any script as pixels: each character by a font of this machine that has it, or else a box with its number.

Pillow draws a line with one font, which has the same empty box for each character that it lacks: names with such boxes
would look alike.
"""

from __future__ import annotations

import os
import re
import struct
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from PIL import Image, ImageDraw, ImageFont

# The first font has the letters of most alphabets. Pillow has one of its own for machines without it.
FIRST = "DejaVuSans.ttf"
FOLDERS = {
    "darwin": ("~/Library/Fonts", "/Library/Fonts", "/System/Library/Fonts"),
    "win32": (r"%LOCALAPPDATA%\Microsoft\Windows\Fonts", r"%WINDIR%\fonts"),
}.get(sys.platform, ("~/.local/share/fonts", "~/.fonts", "/usr/local/share/fonts", "/usr/share/fonts"))
# Of several fonts that have a character, those of plain style come first.
STYLED = re.compile("bold|italic|oblique|light|thin|black|heavy|medium|condensed|narrow|mono|serif", re.IGNORECASE)
# Sizes of the pictures in fonts of emoji, which have no outlines.
STRIKES = (109, 136, 128, 160, 96, 72, 64)
# Digits of 3 × 5 pixels, a row of three bits at a time, for the numbers of characters.
DIGITS = ["75557", "26227", "71747", "71717", "55711", "74717", "74757", "71111"]
DIGITS += ["75757", "75717", "25755", "65656", "34443", "65556", "74747", "74744"]
# Between characters that are read from right to left, these are a part of them: spaces, signs and numbers.
NEUTRAL = {"WS", "ON", "CS", "ES", "ET", "NSM", "EN", "AN", "BN"}

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring characters of one font and direction; file: "" for Pillow's font, None where no font has them."""

    text: str
    file: str | None
    is_leftward: bool


def length(text: str, size: int) -> float:
    """Return the width in pixels of a line of text."""
    return sum(_width(run, size) for run in _runs(text))


def draw(paper: Image.Image, place: tuple[int, int], text: str, colour: Colour, size: int) -> None:
    """Draw a line of text on an RGB picture; place: of its upper left corner."""
    x, top = float(place[0]), place[1]
    baseline = top + _font(_first(), size).getbbox("A", anchor="la")[3]
    pen = ImageDraw.Draw(paper)
    for run in _runs(text):
        if run.file is None:
            for char in run.text:
                _draw_number(pen, round(x), round(baseline), char, colour)
                x += _box(char)[0]
            continue
        font, scale = _scaled(run.file, size)
        if scale == 1:
            pen.text((x, baseline), _ordered(run, font), colour, font, anchor="ls", direction=_direction(run, font))
        else:
            _draw_scaled(paper, (x, baseline), run, font, scale)
        x += _width(run, size)


def missing(text: str) -> set[str]:
    """Return the characters that no font of this machine has."""
    return {char for run in _runs(text) if run.file is None for char in run.text}


def fitting(text: str, width: int, size: int) -> str:
    """Return a text that is shortened in its middle, where it is wider than so many pixels."""
    if length(text, size) <= width:
        return text
    parts = _letters(unicodedata.normalize("NFC", text))
    left, shortened = len(parts), text
    while left > 2 and length(shortened, size) > width:
        left -= 1
        shortened = "".join([*parts[: left // 2], "…", *parts[len(parts) - (left - left // 2) :]])
    return shortened


def lines(text: str, width: int, size: int) -> list[str]:
    """Break a text into at most two lines of so many pixels; the second is shortened in its middle.

    A line ends before the ending of a file or after a mark between words, if there is one in its second half.
    """
    if length(text, size) <= width:
        return [text]
    parts = _letters(unicodedata.normalize("NFC", text))
    end = len(parts)
    while end > 1 and length("".join(parts[:end]), size) > width:
        end -= 1
    marks = [at for at in range(end // 2, end + 1) if at and (parts[at] == "." or parts[at - 1] in " -_,")]
    end = marks[-1] if marks else end
    return ["".join(parts[:end]).rstrip(), fitting("".join(parts[end:]).strip(), width, size)]


def _letters(text: str) -> list[str]:
    """Return the characters of a text, each with the marks that stand on it."""
    letters: list[str] = []
    for char in text:
        if letters and unicodedata.category(char) in ("Mn", "Me"):
            letters[-1] += char
        else:
            letters.append(char)
    return letters


@lru_cache(maxsize=4096)
def _runs(text: str) -> tuple[_Run, ...]:
    """Return the parts of a line, from left to right. The line itself is read from left to right, as paths are."""
    runs: list[_Run] = []
    for part, is_leftward in _by_direction(unicodedata.normalize("NFC", text)):
        own: list[_Run] = []
        for char in part:
            last = own[-1] if own else None
            file = _file_of(char)
            # A mark is drawn by the font of its letter, so that it stands on it; a selector of a variant is not drawn.
            is_mark = unicodedata.category(char) in ("Mn", "Me") and last is not None and last.file is not None
            if is_mark and last is not None and last.file is not None:
                if "VARIATION SELECTOR" in unicodedata.name(char, ""):
                    continue
                file = last.file if _has(last.file, char) else file
            if last is not None and last.file == file:
                own[-1] = _Run(last.text + char, file, is_leftward)
            else:
                own.append(_Run(char, file, is_leftward))
        runs += reversed(own) if is_leftward else own
    return tuple(runs)


def _by_direction(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a text, and whether each is read from right to left; numbers in such a part belong to it."""
    kinds = [unicodedata.bidirectional(char) for char in text]
    start = 0
    while start < len(text):
        is_leftward = kinds[start] in ("R", "AL")
        end = start + 1
        if is_leftward:
            at = end
            while at < len(text) and kinds[at] in {"R", "AL", *NEUTRAL}:
                at += 1
                if kinds[at - 1] in ("R", "AL", "EN", "AN", "NSM"):
                    end = at
        else:
            while end < len(text) and kinds[end] not in ("R", "AL"):
                end += 1
        yield text[start:end], is_leftward
        start = end


def _width(run: _Run, size: int) -> float:
    if run.file is None:
        return sum(_box(char)[0] for char in run.text)
    font, scale = _scaled(run.file, size)
    return float(font.getlength(_ordered(run, font), direction=_direction(run, font))) * scale


def _shapes(font: Font) -> bool:
    """Whether a font orders and joins letters as their script asks, for which Pillow needs a library."""
    return getattr(font, "layout_engine", None) == ImageFont.Layout.RAQM


def _direction(run: _Run, font: Font) -> str | None:
    return ("rtl" if run.is_leftward else "ltr") if _shapes(font) else None


def _ordered(run: _Run, font: Font) -> str:
    """Return the text as a font draws it: reversed, if the font does not do so itself."""
    return "".join(_letters(run.text)[::-1]) if run.is_leftward and not _shapes(font) else run.text


def _draw_scaled(paper: Image.Image, place: tuple[float, float], run: _Run, font: Font, scale: float) -> None:
    left, top, right, bottom = font.getbbox(run.text, anchor="ls")
    picture = Image.new("RGBA", (max(1, round(right - left)), max(1, round(bottom - top))))
    pen = ImageDraw.Draw(picture)
    pen.text((-left, -top), run.text, (0, 0, 0), font, anchor="ls", embedded_color=True)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    small = picture.resize(size, Image.Resampling.LANCZOS)
    paper.paste(small, (round(place[0] + left * scale), round(place[1] + top * scale)), small)


# Characters without a font.


def _number(char: str) -> tuple[str, str]:
    """Return the two rows of digits of a character's code point."""
    digits = f"{ord(char):04X}"
    digits = digits if len(digits) % 2 == 0 else f"0{digits}"
    return digits[: len(digits) // 2], digits[len(digits) // 2 :]


def _box(char: str) -> tuple[int, int]:
    """Return the width of a character's box, with the space after it, and its height."""
    return 4 * len(_number(char)[0]) + 5, 15


def _draw_number(pen: ImageDraw.ImageDraw, x: int, baseline: int, char: str, colour: Colour) -> None:
    width, height = _box(char)
    top = baseline - height + 3
    pen.rectangle((x, top, x + width - 3, top + height - 1), None, colour)
    for row, digits in enumerate(_number(char)):
        for column, digit in enumerate(digits):
            for down, bits in enumerate(DIGITS[int(digit, 16)]):
                for right in range(3):
                    if int(bits) & 4 >> right:
                        pen.point((x + 2 + 4 * column + right, top + 2 + 6 * row + down), colour)


# The fonts of this machine.


@cache
def _first() -> str:
    """Return the file of the first font, "" where only Pillow's own is there."""
    return next((path for path in _files() if os.path.basename(path) == FIRST), "")


@cache
def _files() -> tuple[str, ...]:
    """Return the files of all fonts, in the order in which they are asked for a character."""
    found = []
    for folder in FOLDERS:
        for parent, folders, names in os.walk(os.path.expanduser(os.path.expandvars(folder))):
            folders.sort()
            found += [os.path.join(parent, name) for name in names if name.lower().endswith((".ttf", ".otf", ".ttc"))]
    return tuple(sorted(found, key=_preference))


def _preference(path: str) -> tuple[bool, bool, bool, str]:
    name = os.path.basename(path)
    return name != FIRST, STYLED.search(name) is not None, "sans" not in name.lower(), path


@lru_cache(maxsize=65536)
def _file_of(char: str) -> str | None:
    """Return the file of the first font that has a character, None where no font has it."""
    if _has(_first(), char):
        return _first()
    return next((path for path in _files() if _has(path, char)), None)


def _has(file: str, char: str) -> bool:
    if not file:
        font = _font("", 16)
        return isinstance(font, ImageFont.FreeTypeFont) and bytes(font.getmask(char)) != bytes(font.getmask("\uffff"))
    code = ord(char)
    return any(first <= code <= last for first, last in _characters(file))


@cache
def _characters(file: str) -> Sequence[tuple[int, int]]:
    """Return the ranges of characters that a font has; none for a file that cannot be read or has no such table."""
    try:
        with open(file, "rb") as opened:
            head = opened.read(16)
            start = struct.unpack(">I", head[12:16])[0] if head[:4] == b"ttcf" else 0
            opened.seek(start + 4)
            (tables,) = struct.unpack(">H", opened.read(2))
            opened.seek(start + 12)
            directory = opened.read(16 * tables)
            for at in range(0, len(directory), 16):
                if directory[at : at + 4] == b"cmap":
                    offset, size = struct.unpack(">II", directory[at + 8 : at + 16])
                    opened.seek(offset)
                    return _ranges(opened.read(size))
    except (OSError, struct.error):
        pass
    return ()


def _ranges(table: bytes) -> list[tuple[int, int]]:
    """Return the ranges in the table `cmap` of a font, as https://learn.microsoft.com/typography/opentype/spec/cmap."""
    (count,) = struct.unpack(">H", table[2:4])
    entries = [struct.unpack(">HHI", table[4 + 8 * at : 12 + 8 * at]) for at in range(count)]
    # Tables of all characters come before those of 16 bits.
    wanted = [(3, 10), (0, 6), (0, 4), (3, 1), (0, 3)]
    found = sorted((wanted.index(entry[:2]), entry[2]) for entry in entries if entry[:2] in wanted)
    for _, offset in found:
        part = table[offset:]
        (kind,) = struct.unpack(">H", part[:2])
        if kind == 12:
            (groups,) = struct.unpack(">I", part[12:16])
            return [struct.unpack(">II", part[16 + 12 * at : 24 + 12 * at]) for at in range(groups)]
        if kind == 4:
            (double,) = struct.unpack(">H", part[6:8])
            ends = struct.unpack(f">{double // 2}H", part[14 : 14 + double])
            starts = struct.unpack(f">{double // 2}H", part[16 + double : 16 + 2 * double])
            return [(start, end) for start, end in zip(starts, ends, strict=True) if start != 0xFFFF]
    return []


@lru_cache(maxsize=64)
def _scaled(file: str, size: int) -> tuple[Font, float]:
    """Return a font and the factor by which it is drawn smaller: emoji are pictures of one size."""
    try:
        return _font(file, size), 1
    except OSError:
        for strike in STRIKES:
            try:
                return _font(file, strike), size * 1.15 / strike
            except OSError:
                continue
    return _font(_first(), size), 1


@lru_cache(maxsize=64)
def _font(file: str, size: int) -> Font:
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)
