"""Puts transparent pictures on a background, on which the drawing can be seen."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from PIL import Image

# How `decode` treats transparency: see there.
Alpha = Literal["visible", "white", "black", "drop"]

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
# A pixel that differs from white by less cannot be seen on white, and one of less opacity on no background.
_CONTRAST = 32
# White is kept for a drawing of which at least this part can be seen on it.
_LEAST_VISIBLE = 0.05
_SAMPLE_SIDE = 128
_FEW_PIXELS = 256


def flatten(layer: Image.Image, alpha: Literal["visible", "white", "black"]) -> tuple[Image.Image, bool]:
    """Return a picture of mode RGBA or LA as RGB on a background, and whether any pixel is transparent.

    alpha: "visible" is white, or black where less than a twentieth of the drawing can be seen on white.
    """
    opacity = layer.getchannel("A")
    if opacity.getextrema()[0] == 255:
        return layer.convert("RGB"), False
    background = BLACK if alpha == "black" or (alpha == "visible" and not _shows_on_white(layer)) else WHITE
    picture = Image.new("RGB", layer.size, background)
    picture.paste(layer if layer.mode == "RGBA" else layer.convert("RGB"), mask=opacity)
    return picture, True


def _shows_on_white(layer: Image.Image) -> bool:
    """Whether enough of the pixels that are not transparent differ from white."""
    side = _SAMPLE_SIDE
    sample = layer.resize((min(side, layer.width), min(side, layer.height)), Image.Resampling.NEAREST)
    visible, contrasts = _on_white(sample)
    # Few pixels of thin lines are met by chance.
    if visible < _FEW_PIXELS and sample.size != layer.size:
        visible, contrasts = _on_white(layer)
    return not visible or contrasts >= _LEAST_VISIBLE * visible


def _on_white(layer: Image.Image) -> tuple[int, int]:
    """Return how many pixels can be seen on some background, and how many on white."""
    *colours, opacity = (np.asarray(channel) for channel in layer.split())
    # Channel by channel: numpy takes ten times as long along the last axis.
    contrast = (255 - functools.reduce(np.minimum, colours)).astype(np.uint16) * opacity // 255
    return int(np.count_nonzero(opacity >= _CONTRAST)), int(np.count_nonzero(contrast >= _CONTRAST))
