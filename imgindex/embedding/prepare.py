"""From an upright RGB picture to the square of pixels that the network sees."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

from imgindex.embedding.recipe import Recipe
from imgindex.images.decode import fitted
from imgindex.types import Pixels

WHITE = (255, 255, 255)
ARTICLE_CROP = 512


def prepare(picture: Image.Image, recipe: Recipe) -> Pixels:
    """Return uint8 pixels (side, side, 3) in the recipe's channel order, of an upright RGB picture."""
    square = GEOMETRIES[recipe.geometry](picture, recipe.side)
    pixels = np.asarray(square, dtype=np.uint8)
    return np.ascontiguousarray(pixels[:, :, ::-1]) if recipe.channels == "bgr" else pixels


def fit(recipe: Recipe) -> int | None:
    """Return the longer side that a picture may be scaled to while it is decoded; None where the recipe must see all.

    What `prepare` then makes of it is the same.
    """
    return recipe.side if recipe.geometry == "letterbox" else None


def letterbox(picture: Image.Image, side: int) -> Image.Image:
    """Scale the whole picture into a square, its proportions kept, the rest white."""
    width, height = fitted(picture.size, side)
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    if width == height:
        return picture
    square = Image.new("RGB", (side, side), WHITE)
    square.paste(picture, ((side - width) // 2, (side - height) // 2))
    return square


def without_border(pixels: Pixels, recipe: Recipe, width: int, height: int) -> Pixels:
    """Return of what `prepare` made of a picture of that size the part that shows the picture."""
    if recipe.geometry != "letterbox":
        return pixels
    across, down = fitted((width, height), recipe.side)
    left, top = (recipe.side - across) // 2, (recipe.side - down) // 2
    return pixels[top : top + down, left : left + across]


def article(picture: Image.Image, side: int) -> Image.Image:
    """Cut 512 × 512 out of the middle (black where the picture is smaller), then scale: CenterCrop(512), Resize(448).

    The roundings are those of torchvision's `center_crop`, pixel for pixel.
    """
    crop = ARTICLE_CROP
    width, height = picture.size
    if width < crop or height < crop:
        spare_x, spare_y = max(0, crop - width), max(0, crop - height)
        border = (spare_x // 2, spare_y // 2, (spare_x + 1) // 2, (spare_y + 1) // 2)
        picture = ImageOps.expand(picture, border, fill=0)
        width, height = picture.size
    left, top = round((width - crop) / 2.0), round((height - crop) / 2.0)
    middle = picture.crop((left, top, left + crop, top + crop))
    return middle.resize((side, side), Image.Resampling.BILINEAR)


GEOMETRIES: dict[str, Callable[[Image.Image, int], Image.Image]] = {"letterbox": letterbox, "article": article}
