"""Pictures that were turned or mirrored: the ways to turn them, their pixels and their perceptual hashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from imgindex.decoding import perceptual_hash
from imgindex.decoding.perceptual_hash import Codes
from imgindex.types import Pixels


@dataclass(frozen=True, slots=True)
class Turn:
    """A symmetry of the square: the picture is transposed first, and then mirrored."""

    transposed: bool = False
    left_right: bool = False
    top_bottom: bool = False

    def pixels(self, pixels: Pixels) -> Pixels:
        """Return the turned pixels (height, width, 3)."""
        if self.transposed:
            pixels = pixels.swapaxes(0, 1)
        pixels = pixels[:: -1 if self.top_bottom else 1, :: -1 if self.left_right else 1]
        return np.ascontiguousarray(pixels)

    def hashes(self, codes: Codes) -> Codes:
        """Return the hashes of turned pictures from those of the pictures."""
        return perceptual_hash.turned(
            codes, transposed=self.transposed, left_right=self.left_right, top_bottom=self.top_bottom
        )


# The names are clockwise.
ROTATIONS = {
    "turned by 90°": Turn(transposed=True, left_right=True),
    "turned by 180°": Turn(left_right=True, top_bottom=True),
    "turned by 270°": Turn(transposed=True, top_bottom=True),
}
FLIPS = {
    "mirrored left to right": Turn(left_right=True),
    "mirrored top to bottom": Turn(top_bottom=True),
}
# The symmetries of a square that only a rotation and a flip together make.
COMBINED = {
    "mirrored left to right, turned by 90°": Turn(transposed=True, left_right=True, top_bottom=True),
    "mirrored left to right, turned by 270°": Turn(transposed=True),
}
ALL: Mapping[str, Turn] = {"": Turn()} | ROTATIONS | FLIPS | COMBINED
_INVERSE = {"turned by 90°": "turned by 270°", "turned by 270°": "turned by 90°"}


def turns(*, rotations: bool, flips: bool) -> dict[str, Turn]:
    """Return the ways to turn a picture by name, without the identity."""
    return (ROTATIONS if rotations else {}) | (FLIPS if flips else {}) | (COMBINED if rotations and flips else {})


def inverse(name: str) -> str:
    """Return the name of the way to turn a picture back."""
    return _INVERSE.get(name, name)
