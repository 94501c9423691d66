"""Choose the recipe of a new index, and make the encoder of a recipe."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, get_args

from imgindex.encoders.base import NetworkModule, WeightsFile
from imgindex.encoders.weights import LITE2, SHIPPED, TORCHVISION, locate_weights
from imgindex.errors import EncoderMissing, RecipeMismatch, UsageError, WeightsMismatch, WeightsUnavailable
from imgindex.recipe import CUSTOM, DEFAULT, WEIGHTS_OF_MEAN, Recipe, Scaling, get_recipe
from imgindex.types import CustomEncoder, Encoder, Engine

log = logging.getLogger(__name__)

DTYPES = {"fp32": "float32", "fp16": "float16"}
# The layers whose output is a vector, by the network: how many numbers, and how they are pooled.
LAYERS = {
    "vgg16": {"fc1": (4096, "none"), "pool5": (512, "gem")},
    "efficientnet-lite2": {"head": (1280, "average")},
}
# The values that the fields of a recipe may have.
CHOICES = {
    "geometry": ("letterbox", "article"),
    "alpha": ("visible", "white", "black", "drop"),
    "channels": ("rgb", "bgr"),
    "norm": ("l2", "none"),
    "upright": (True,),
    "scaling": get_args(Scaling),
}


@dataclass(frozen=True, slots=True)
class RecipeChoice:
    """A recipe with the digest of its weights, and where these weights are."""

    recipe: Recipe
    weights: WeightsFile


def network_module(network: str) -> NetworkModule:
    """Return the module for the `network` of a recipe. Raises UsageError for an unknown network."""
    if network == "vgg16":
        from imgindex.encoders.vgg import encoder

        return encoder
    if network == "efficientnet-lite2":
        from imgindex.encoders import efficientnet

        return efficientnet
    raise UsageError(f"unknown network {network!r}", hint="this version of imgindex has vgg16 and efficientnet-lite2")


def choose_recipe(name: str = DEFAULT, *, size: int | None = None, weights: str | None = None) -> RecipeChoice:
    """Return the recipe of that name with its weights. A recipe is never replaced by another.

    size: as in `get_recipe`. weights: as in `locate_weights`; with weights other than the recipe's own, the recipe has
    no offset, because the mean of their vectors is not known.

    Raises UsageError, WeightsUnavailable or WeightsMismatch.
    """
    recipe = get_recipe(name, size=size)
    found = locate_weights(weights or recipe.weights)
    if weights is not None and not weights.startswith("random:"):
        # Checked before an index is made: with these weights it could not encode any image, and it accepts no others.
        network_module(recipe.network).check_weights(recipe, found)
    if found.sha256 != WEIGHTS_OF_MEAN.get(recipe.name):
        recipe = replace(recipe, offset="", offset_sha256="")
    return RecipeChoice(replace(recipe, weights=found.name, weights_sha256=found.sha256), found)


def complete_recipe(recipe: Recipe, *, weights: str | None = None) -> RecipeChoice:
    """Return a recipe of the caller's own with the digest of its weights.

    Raises UsageError where no encoder of imgindex makes its vectors, WeightsUnavailable or WeightsMismatch.
    """
    problem = _problem(recipe)
    if problem:
        raise UsageError(
            f"no encoder makes the vectors of the recipe {recipe.name!r}: {problem}",
            hint="begin with one of imgindex.RECIPES, or give an encoder of your own: create(path, encoder=...)",
        )
    found = locate_weights(weights or recipe.weights)
    if recipe.weights_sha256 not in ("", found.sha256):
        raise WeightsMismatch(f"{found.source} has another SHA-256 than the weights of the recipe {recipe.name!r}")
    if not found.source.startswith("random:"):
        network_module(recipe.network).check_weights(recipe, found)
    return RecipeChoice(replace(recipe, weights=found.name, weights_sha256=found.sha256), found)


def _problem(recipe: Recipe) -> str:
    """Return why no encoder makes the vectors of a recipe, or nothing."""
    if not recipe.is_valid():
        return "a field has a value of another type, or an impossible one"
    layers = LAYERS.get(recipe.network, {})
    dimension, pooling = layers.get(recipe.layer, (recipe.dimension, recipe.pooling))
    wanted: dict[str, Collection[Any]] = {
        "network": LAYERS,
        "layer": layers,
        "dimension": (dimension,),
        "pooling": (pooling,),
        "side": range(32, 1025, 32),
        **CHOICES,
    }
    for field, values in wanted.items():
        value = getattr(recipe, field)
        if value not in values:
            known = "a multiple of 32 up to 1024" if field == "side" else " or ".join(map(str, values))
            return f"its {field} is {value!r}, not {known}"
    if not all(recipe.std):
        return "its standard deviation is 0"
    return _problem_of_mean(recipe) if recipe.offset else ""


def _problem_of_mean(recipe: Recipe) -> str:
    from imgindex.encoders.output import offset_vector

    try:
        right = offset_vector(recipe).shape == (recipe.dimension,)
    except RecipeMismatch:
        return f"no mean {recipe.offset!r} has this SHA-256"
    return "" if right else f"the mean {recipe.offset} is of another layer"


def new_index_settings(
    recipe: str | Recipe,
    *,
    size: int | None,
    weights: str | None,
    store: str,
    encoder: CustomEncoder | None = None,
) -> dict[str, str]:
    """Return the settings of a new index: its recipe, where the weights are, and how vectors are stored.

    Raises as `ImageIndex.create` does.
    """
    if store not in DTYPES:
        raise UsageError(f"vectors cannot be stored as {store!r}", hint="choose fp32 or fp16")
    if encoder is not None:
        from imgindex.encoders.custom import custom_recipe

        if recipe != DEFAULT or size is not None or weights is not None:
            raise UsageError(
                "an encoder of your own has its own recipe", hint="give encoder without recipe, size and weights"
            )
        chosen, source = custom_recipe(encoder), CUSTOM
    else:
        if not isinstance(recipe, Recipe):
            choice = choose_recipe(recipe, size=size, weights=weights)
        elif size is not None:
            raise UsageError("a Recipe has its own size", hint="use dataclasses.replace(recipe, side=...)")
        else:
            choice = complete_recipe(recipe, weights=weights)
        chosen, source = choice.recipe, choice.weights.source
    return {
        "recipe": chosen.to_json(),
        "recipe_digest": chosen.digest,
        "dimension": str(chosen.dimension),
        "weights": source,
        "store": DTYPES[store],
    }


def require_settings(
    path: str, actual: Recipe, dtype: str, *, recipe: str | None, size: int | None, store: str | None
) -> None:
    """Raise RecipeMismatch unless the index at `path`, which has the recipe `actual`, has what the caller asks for.

    recipe, size, store: None for any.
    """
    for what, asked, found in (
        ("recipe", actual.name if recipe is None else recipe, actual.name),
        ("size", actual.side if size is None else size, actual.side),
        ("store", dtype if store is None else DTYPES.get(store, store), dtype),
    ):
        if asked != found:
            raise RecipeMismatch(f"the index at {path} has the {what} {found}, not {asked}")


def find_weights_again(recipe: Recipe, *, source: str, weights: str | None = None) -> WeightsFile:
    """Return the weights of an index's recipe: from their `source` at that time, or from the file `weights` now.

    Raises WeightsUnavailable when the file is missing, RecipeMismatch when it holds other weights.
    """
    try:
        found = locate_weights(weights or source)
    except WeightsUnavailable as error:
        if weights is None and source not in (SHIPPED, TORCHVISION, LITE2):
            raise WeightsUnavailable(
                f"the weights of this index, {source}, are missing", hint="name the file with `weights=FILE`"
            ) from error
        raise
    if found.sha256 != recipe.weights_sha256:
        raise RecipeMismatch(
            f"{found.source} is not the weights file that this index was made with (sha256 {recipe.weights_sha256})",
            hint="name that file with `weights=FILE`, or make another index with `path=DIR`",
        )
    return found


def make_encoder(recipe: Recipe, settings: dict[str, str], weights: str | None, engine: Engine) -> Encoder:
    """Return the encoder of an index. Raises as `network_module`, `find_weights_again` and `make_encoder` there do.

    settings: those of the index, which hold where its weights were. weights: where they are now, None for there. Raises
    EncoderMissing for an index of an encoder of the user's own.
    """
    if recipe.network == CUSTOM:
        raise EncoderMissing(f"the pictures of this index need its own encoder, {recipe.name}, which was not given")
    found = find_weights_again(recipe, source=settings.get("weights", recipe.weights), weights=weights)
    return network_module(recipe.network).make_encoder(recipe, found, engine)
