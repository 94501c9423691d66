"""The last step of every encoder: from the network's output to the vector of the recipe."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources

import numpy as np

from imgindex.errors import RecipeMismatch
from imgindex.recipe import Recipe
from imgindex.types import Vectors

# The mean vectors of 763 photographs, one of each of 763 classes of ImageNet, by recipe and side in pixels. Each was
# computed from vectors of length 1. docs/weights/README.md describes them.
MEANS = "means.npz"


def finish(outputs: Vectors, recipe: Recipe) -> Vectors:
    """Return the vectors of a recipe for the outputs (n, dimension) of its network, float32.

    With the norm l2 a vector is divided by its length. With an offset, that mean is then subtracted and the difference
    is divided by its own length: what all photographs have in common says nothing about one of them (Jégou & Chum,
    "Negative evidences and co-occurences in image retrieval", 2012). A vector of zeros stays one.

    Raises RecipeMismatch if this version of imgindex does not have the recipe's offset.
    """
    vectors = _normalised(outputs.astype(np.float32, copy=False), recipe.norm)
    if recipe.offset:
        vectors = np.where(vectors.any(axis=1, keepdims=True), vectors - offset_vector(recipe), vectors)
        vectors = _normalised(vectors, recipe.norm)
    return vectors


@functools.lru_cache(maxsize=8)
def offset_vector(recipe: Recipe) -> Vectors:
    """Return the mean, float32 (dimension,), that the recipe subtracts.

    Raises RecipeMismatch if this version of imgindex does not have it.
    """
    with np.load(str(resources.files("imgindex.encoders") / "data" / MEANS)) as means:
        mean: Vectors | None = means.get(recipe.offset)
    if mean is None or hashlib.sha256(mean.tobytes()).hexdigest() != recipe.offset_sha256:
        raise RecipeMismatch(
            f"the vectors of this index are less a mean, {recipe.offset}, that this version of imgindex does not have",
            hint="use the version that made the index, or make another index with `path=DIR`",
        )
    return mean


def _normalised(vectors: Vectors, norm: str) -> Vectors:
    if norm != "l2":
        return vectors
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    unit: Vectors = (vectors / np.maximum(lengths, 1e-12)[:, None]).astype(np.float32)
    return unit
