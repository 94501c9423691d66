"""How near two images are to be called duplicates, by recipe, as it was measured on photographs."""

from __future__ import annotations

import math

import numpy as np

from imgindex.embedding.recipe import Recipe
from imgindex.errors import UsageError

# The greatest distance within which at least 99 of 100 pairs are changed copies of one photo, by the side in pixels:
# benchmarks/bench_duplicates.py on 146 photos, each re-encoded, scaled, cut, made brighter and darker; see
# docs/duplicates.md. Other sides lie between.
POOL5 = {96: 0.36, 128: 0.40, 160: 0.38, 224: 0.40, 320: 0.37, 448: 0.33}
# The same with a random fc1 on the same convolutions: no trained one was at hand.
FC1 = 0.68


def threshold(recipe: Recipe, wanted: float | None = None) -> float:
    """Return the distance that is wanted, else the one calibrated for a recipe.

    Raises UsageError for what is no distance, or for a recipe whose distances nobody has measured.
    """
    if wanted is not None:
        if not (math.isfinite(wanted) and wanted >= 0):
            raise UsageError(f"{wanted} is no distance", hint="give a number from 0 up")
        return wanted
    plain = recipe.norm == "l2" and recipe.geometry == "letterbox"
    if plain and recipe.cut == "pool5" and recipe.pooling == "gem" and recipe.weights == "oxford":
        return round(float(np.interp(recipe.side, list(POOL5), list(POOL5.values()))), 2)
    if plain and recipe.cut == "fc1" and recipe.name == "vgg16-fc1":
        return FC1
    raise UsageError(
        f"for the recipe {recipe.name} with the weights {recipe.weights} no distance is calibrated",
        hint="say with --distance D how near duplicates are; `imgindex similar` on some of them shows it",
    )
