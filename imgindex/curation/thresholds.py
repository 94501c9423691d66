"""The distances up to which two images are similar, and may be copies, by recipe, as measured on photographs."""

from __future__ import annotations

import math

import numpy as np

from imgindex.errors import UsageError
from imgindex.recipe import CUSTOM, Recipe

# The greatest distance within which at least 99 of 100 pairs are changed copies of one photo, by the side in pixels:
# benchmarks/bench_duplicates.py on 146 photos, each re-encoded, scaled, cropped, made brighter and darker; see
# docs/duplicates.md. Distances for other sides are interpolated.
POOL5 = {96: 0.38, 128: 0.43, 160: 0.42, 224: 0.47, 320: 0.48, 448: 0.48}
LITE2 = 0.37
# Measured with a random fc1 on the same convolutions, because no trained one was available.
FC1 = 0.68


# Copies farther apart than the calibrated distance are found up to this multiple of it, and then compared by pixels:
# beyond it there are hardly more copies, and many more pairs.
CANDIDATES = 1.35


def similar_distance(recipe: Recipe, distance: float | None, *, similar: bool) -> float | None:
    """Return the distance of similar images: the given one, or that of the recipe; None if none are asked for.

    Raises UsageError for a negative or infinite distance, for one that has no effect, and if none is given for a recipe
    that has no calibrated distance.
    """
    if distance is not None and not similar:
        raise UsageError("a distance has an effect on similar images only", hint="ask for similar images too")
    if not similar:
        return None
    if distance is not None:
        if not (math.isfinite(distance) and distance >= 0):
            raise UsageError(f"a distance cannot be {distance}", hint="give a number from 0 up")
        return distance
    known = calibrated(recipe)
    if known is None:
        weights = "" if recipe.network == CUSTOM else f" with the weights {recipe.weights}"
        raise UsageError(
            f"no distance is calibrated for the recipe {recipe.name}{weights}",
            hint="give `distance=D`; `imgindex similar` on some duplicates shows how near they are",
        )
    return known


def candidate_distance(recipe: Recipe) -> float | None:
    """Return how far apart the vectors of copies may be; None for a recipe that has no calibrated distance."""
    known = calibrated(recipe)
    return None if known is None else CANDIDATES * known


def calibrated(recipe: Recipe) -> float | None:
    """Return the distance of near images that was calibrated for the recipe; None if none was.

    A recipe with a mean has it only with the weights that the distance was measured with.
    """
    if recipe.norm != "l2" or recipe.geometry != "letterbox":
        return None
    if recipe.offset and recipe.name == "vgg16-pool5":
        return round(float(np.interp(recipe.side, list(POOL5), list(POOL5.values()))), 2)
    if recipe.offset and recipe.name == "efficientnet-lite2":
        return LITE2
    return FC1 if recipe.name == "vgg16-fc1" else None
