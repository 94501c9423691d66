"""Which part of a picture is inside its uniform borders, frames and screenshot margins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from imgindex.types import Pixels

# How far a value may be from the border's colour, and the share of a line's pixels that must be so near.
TOLERANCE, SHARE = 16, 0.96
# A line of text in a margin, such as a clock, is at most so high, as a share of the picture's side.
GAP = 0.05
# Frames within frames.
LAYERS = 4


def content_box(pixels: Pixels) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of what is inside the borders of pixels (height, width, 3).

    The whole picture where it is uniform.
    """
    left, top, right, bottom = 0, 0, pixels.shape[1], pixels.shape[0]
    for _ in range(LAYERS):
        inside = pixels[top:bottom, left:right]
        columns = inside.transpose(1, 0, 2)
        above, below = _margin(inside), _margin(inside[::-1])
        before, after = _margin(columns), _margin(columns[::-1])
        if above + below >= len(inside) or before + after >= len(columns):
            break
        if not above + below + before + after:
            break
        left, top, right, bottom = left + before, top + above, right - after, bottom - below
    return left, top, right, bottom


def _margin(lines: Pixels) -> int:
    """Return how many of the first lines (n, length, 3) are a margin of one colour.

    Lines are looked at only as far as a margin may reach: most pictures have none.
    """
    colour = np.median(lines[0], axis=0).astype(np.int16)
    gap, end, start = max(1, round(GAP * len(lines))), 0, 0
    while start < len(lines) and start - end <= (gap if end else 0):
        part = lines[start : start + (gap + 1 if end else 1)]
        near: npt.NDArray[np.bool_] = (np.abs(part - colour) <= TOLERANCE).all(axis=2)
        for line in (start + np.flatnonzero(near.mean(axis=1) >= SHARE)).tolist():
            if line - end > (gap if end else 0):
                break
            end = line + 1
        start += len(part)
    return end
