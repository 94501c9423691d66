"""Perceptual hashes of a picture, by which copies are found that a vector misses.

A hash has a bit for each of the 63 lowest frequencies of the picture at 32 × 32 grey values: the sign of its cosine
transform (Zauner, Implementation and benchmarking of perceptual image hash functions, 2010). Scaling, compression and
other brightness change few of them. Signs, unlike a comparison with the median, make the hash of a turned picture a
permutation of the bits.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgindex.decoding import blank
from imgindex.decoding.decode import Draft, Picture, decode

Grey = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.uint64]

# Increased when the same picture may get other hashes: stored hashes of another version are computed again.
VERSION = 1
SIDE, FREQUENCIES = 32, 8
# Hashes are computed from the picture at this longer side in pixels.
SMALL = 128
# A border is a run of lines in which at most SPECKS of the pixels differ by more than EVEN from the outermost one.
EVEN, SPECKS = 20, 0.02
# In a screenshot a clock and buttons stand in the border: lines of which up to this share differs belong to it.
BARS = 0.3
# The middle part of the picture, as shares of its sides, so that a cropped copy has the hash of the whole original.
MIDDLES = (0.9, 0.8)

_ROWS = np.arange(SIDE) + 0.5
_COSINES: npt.NDArray[np.float32] = np.cos(np.pi / SIDE * np.arange(FREQUENCIES)[:, None] * _ROWS).astype(np.float32)


def of_file(data: bytes, picture: Picture, *, alpha: str, draft: Draft | None = None) -> bytes:
    """Return the hashes of a file that was decoded to `picture`, those of a transparent one on white and black too.

    alpha, draft: by which it was decoded.
    """
    pictures = [picture.image]
    if picture.is_transparent and alpha != "drop":
        # A copy elsewhere may be on another background.
        pictures += [decode(data, alpha="white", draft=draft).image]
        pictures += [decode(data, alpha="black", draft=draft).image]
    return hashes(*pictures)


def hashes(*pictures: Image.Image) -> bytes:
    """Return a byte with VERSION, then 8 bytes for each hash of RGB pictures: of one, or of one on several backgrounds.

    The hashes are of the whole picture, of the picture without uniform borders, of the middle parts of that, and of the
    picture without the bars of a screenshot. A picture of one colour has none, unless it is the only one.
    """
    shown = [picture for picture in pictures if not blank.is_blank(picture)] if len(pictures) > 1 else []
    codes = np.concatenate([_codes(picture) for picture in shown or pictures[:1]])
    # Each once, in the order of the parts.
    distinct = dict.fromkeys(codes.tolist())
    return bytes([VERSION]) + np.array(list(distinct), dtype="<u8").tobytes()


def _codes(picture: Image.Image) -> Codes:
    width, height = picture.size
    scale = SMALL / max(width, height)
    size = max(SIDE // 2, round(width * scale)), max(SIDE // 2, round(height * scale))
    small = picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0).convert("L")
    grey = np.frombuffer(small.tobytes(), np.uint8).reshape(size[::-1])
    left, top, right, bottom = _content(grey)
    boxes: list[tuple[float, float, float, float]] = [(0, 0, *size), (left, top, right, bottom), _within_bars(grey)]
    for share in MIDDLES:
        x, y = (right - left) * (1 - share) / 2, (bottom - top) * (1 - share) / 2
        boxes.append((left + x, top + y, right - x, bottom - y))
    # Most pictures have no borders: then the first boxes are the same one.
    parts = [small.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box).tobytes() for box in dict.fromkeys(boxes)]
    squares = np.frombuffer(b"".join(parts), np.uint8).reshape(-1, SIDE, SIDE).astype(np.float32)
    bits = (_COSINES @ squares @ _COSINES.T > 0).reshape(-1, FREQUENCIES**2)
    bits[:, 0] = False  # the mean
    packed = np.packbits(bits, axis=1, bitorder="little")
    codes: Codes = packed.view("<u8")[:, 0]
    return codes


def parse(data: bytes | None) -> Codes | None:
    """Return the hashes (n,) that `hashes` stored; None if there are none, or they are of another version."""
    if not data or data[0] != VERSION or len(data) % 8 != 1:
        return None
    return np.frombuffer(data[1:], dtype="<u8").astype(np.uint64)


def turned(codes: Codes, *, transposed: bool, left_right: bool, top_bottom: bool) -> Codes:
    """Return the hashes that pictures have after they are transposed first, and then mirrored."""
    bits = np.unpackbits(codes.astype("<u8")[:, None].view(np.uint8), axis=1, bitorder="little")
    square = bits.reshape(-1, FREQUENCIES, FREQUENCIES)
    if transposed:
        square = square.swapaxes(1, 2)
    odd = np.arange(FREQUENCIES, dtype=np.uint8) % 2
    flips = (odd[None, :] if left_right else 0) ^ (odd[:, None] if top_bottom else np.zeros((1, 1), np.uint8))
    flipped = square ^ flips
    flipped[:, 0, 0] = square[:, 0, 0]
    packed = np.packbits(flipped.reshape(-1, FREQUENCIES**2), axis=1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u8")[:, 0].astype(np.uint64)


def _content(grey: Grey) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of what is inside the borders of one grey value; the whole if that is all."""
    height, width = grey.shape
    left, top, right, bottom = 0, 0, width, height
    top, bottom = _between(grey)
    left, right = _between(grey[top:bottom].T)
    top_inside, bottom_inside = _between(grey[top:bottom, left:right])  # rows that only the side borders had hidden
    top, bottom = top + top_inside, top + bottom_inside
    if right - left < SMALL // 8 or bottom - top < SMALL // 8:
        return 0, 0, width, height
    return left, top, right, bottom


def _within_bars(grey: Grey) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the largest part between even rows, and between even columns of it."""
    top, bottom = _longest_run(_are_other(grey, grey[0], BARS))
    part = grey[top:bottom].T
    left, right = _longest_run(_are_other(part, part[0], BARS))
    if right - left < SMALL // 8 or bottom - top < SMALL // 8:
        return 0, 0, grey.shape[1], grey.shape[0]
    return left, top, right, bottom


def _longest_run(flags: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Return the ends of the longest run of True; all if there is none."""
    text = flags.tobytes()
    longest = max(text.split(b"\0"), key=len)
    start = text.find(longest)
    return (start, start + len(longest)) if longest else (0, len(text))


def _are_other(lines: Grey, outermost: Grey, share: float) -> npt.NDArray[np.bool_]:
    """Return which lines are not border: more than a share of their pixels differ from the usual grey of `outermost`.

    Each picture needs this several times, so it stays in bytes and calls few functions: the cost of a call in numpy is
    that of a thousand pixels.
    """
    lowest, highest = _usual(np.sort(outermost).tobytes())
    # Numbers below the lowest wrap around to large ones.
    differs = lines - np.uint8(lowest) > np.uint8(highest - lowest)
    # A line has at most SMALL pixels, so that a byte can count them.
    others: npt.NDArray[np.bool_] = (
        np.add.reduce(differs.view(np.uint8), axis=1, dtype=np.uint8) > share * lines.shape[1]
    )
    return others


def _usual(ordered: bytes) -> tuple[int, int]:
    """Return the least and the greatest grey that differs by at most EVEN from the median of pixels in their order."""
    middle = len(ordered) // 2
    twice_usual = ordered[middle] + ordered[-1 - middle]  # the median is half of it
    return max(0, -(-twice_usual // 2) - EVEN), min(255, twice_usual // 2 + EVEN)


def _between(lines: Grey) -> tuple[int, int]:
    """Return the first line that is not border, and the one after the last; all lines if all are border."""
    first, last = _border(lines), _border(lines[::-1])
    return (first, len(lines) - last) if first + last < len(lines) else (0, len(lines))


def _border(lines: Grey) -> int:
    """Return how many lines at the beginning are border; 0 if all are."""
    ordered = np.sort(lines[0]).tobytes()
    lowest, highest = _usual(ordered)
    even = bisect_right(ordered, highest) - bisect_left(ordered, lowest)
    if len(ordered) - even > SPECKS * len(ordered):
        return 0  # as in most pictures
    return int(_are_other(lines, lines[0], SPECKS).argmax())
