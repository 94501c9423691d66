"""Prepares pictures for the network: turns an upright RGB picture into the pixels that a recipe wants."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

from imgindex.decoding.decode import Draft
from imgindex.decoding.scaling import scale
from imgindex.decoding.sizes import reduced_size, scaled_size
from imgindex.recipe import Recipe, Scaling
from imgindex.types import Pixels

WHITE = 255
ARTICLE_CROP = 512


def prepare(picture: Image.Image, recipe: Recipe) -> Pixels:
    """Return uint8 pixels in the recipe's channel order, of an upright RGB picture; their shape is `sizes.shape_of`."""
    pixels = GEOMETRIES[recipe.geometry](picture, recipe.side, recipe.scaling)
    return np.ascontiguousarray(pixels[:, :, ::-1]) if recipe.channels == "bgr" else pixels


def draft(recipe: Recipe) -> Draft | None:
    """Return the size to which a picture may be scaled while it is decoded; None if the recipe needs it whole."""
    if recipe.geometry == "article":
        return None
    enlarges = recipe.geometry == "letterbox"
    return Draft(recipe.side, recipe.draft_margin, enlarges=enlarges, scaling=recipe.scaling)


def letterbox(picture: Image.Image, side: int, scaling: Scaling) -> Pixels:
    """Scale the whole picture into a square, with its proportions; the rest is white."""
    width, height = scaled_size(picture.size, side)
    if picture.size != (width, height):
        picture = scale(picture, (width, height), scaling)
    pixels = np.asarray(picture, dtype=np.uint8)
    if width == height:
        return pixels
    square = np.full((side, side, 3), WHITE, np.uint8)
    left, top = (side - width) // 2, (side - height) // 2
    square[top : top + height, left : left + width] = pixels
    return square


def crop_border(pixels: Pixels, recipe: Recipe, width: int, height: int) -> Pixels:
    """Return the part of prepared pixels that shows the picture, without the border; width, height: the picture's."""
    if recipe.geometry != "letterbox":
        return pixels
    inner_width, inner_height = scaled_size((width, height), recipe.side)
    left, top = (recipe.side - inner_width) // 2, (recipe.side - inner_height) // 2
    return pixels[top : top + inner_height, left : left + inner_width]


def reduced(picture: Image.Image, side: int, scaling: Scaling) -> Pixels:
    """Scale the whole picture down to fit into a square; a smaller one stays as it is. For comparing, not for networks:
    a border or an enlarged picture would only be more pixels to compare.
    """
    size = reduced_size(picture.size, side)
    return np.asarray(picture if picture.size == size else scale(picture, size, scaling), dtype=np.uint8)


def article(picture: Image.Image, side: int, scaling: Scaling) -> Pixels:
    """Cut 512 × 512 out of the middle (black where the picture is smaller), then scale it to a square of `side`.

    The article's CenterCrop(512), Resize(448). Rounds as torchvision's `center_crop` does, to the pixel.
    """
    crop = ARTICLE_CROP
    # Cut first: a picture of a million pixels by one would get a border of gigabytes.
    left, top = (max(0, round((length - crop) / 2.0)) for length in picture.size)
    middle = picture.crop((left, top, min(left + crop, picture.width), min(top + crop, picture.height)))
    if middle.size != (crop, crop):
        spare_x, spare_y = crop - middle.width, crop - middle.height
        border = (spare_x // 2, spare_y // 2, (spare_x + 1) // 2, (spare_y + 1) // 2)
        middle = ImageOps.expand(middle, border, fill=0)
    return np.asarray(scale(middle, (side, side), scaling), dtype=np.uint8)


GEOMETRIES: dict[str, Callable[[Image.Image, int, Scaling], Pixels]] = {
    "letterbox": letterbox,
    "article": article,
    "reduced": reduced,
}
