"""The sizes of pictures before and after they are scaled. Without Pillow, which the process of `add` does not load."""

from __future__ import annotations

from imgindex.recipe import Recipe


def scaled_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return (width, height) of a picture of the given size after its longer side is scaled to `side` pixels.

    >>> scaled_size((500, 375), 224)
    (224, 168)
    """
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def reduced_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return (width, height) of a picture whose longer side is scaled to `side` pixels, unless it is smaller."""
    return scaled_size(size, min(side, max(size)))


def shape_of(recipe: Recipe, width: int, height: int) -> tuple[int, int, int]:
    """Return the shape of the prepared pixels of a picture with this width and height, (side, side, 3) at most."""
    if recipe.geometry != "reduced":
        return recipe.side, recipe.side, 3
    width, height = reduced_size((width, height), recipe.side)
    return height, width, 3
