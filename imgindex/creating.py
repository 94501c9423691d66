"""What a new index is made of, and whether one that is there is what was asked for."""

from __future__ import annotations

from imgindex.embedding.choice import choose
from imgindex.embedding.recipe import Recipe
from imgindex.errors import RecipeMismatch, UsageError
from imgindex.storage.store import Store, exists

DTYPES = {"fp32": "float32", "fp16": "float16"}


def create(path: str, recipe: str | Recipe, *, size: int | None, weights: str | None, store: str) -> Store:
    """Make an index for vectors of a recipe, stored as fp32 or fp16. Raises as `ImageIndex.create` says."""
    if store not in DTYPES:
        raise UsageError(f"vectors cannot be stored as {store!r}", hint="choose fp32 or fp16")
    if exists(path):
        Store(path).close()  # says what is wrong with it, if anything is
    if isinstance(recipe, Recipe):
        chosen, source = recipe, weights or recipe.weights
    else:
        choice = choose(recipe, size=size, weights=weights)
        chosen, source = choice.recipe, choice.weights.source
    settings = {
        "recipe": chosen.to_json(),
        "recipe_digest": chosen.digest,
        "dimension": str(chosen.dimension),
        "weights": source,
        "store": DTYPES[store],
    }
    return Store.create(path, settings)


def require(index: Store, has: Recipe, *, recipe: str, size: int | None, store: str | None) -> None:
    """Raise RecipeMismatch unless an index has that recipe, side in pixels and storage."""
    dtype = index.segments.dtype.name
    for asked, there, what in (
        (recipe, has.name, "recipe"),
        (has.side if size is None else size, has.side, "size"),
        (dtype if store is None else DTYPES.get(store, store), dtype, "store"),
    ):
        if asked not in (there, "auto"):
            raise RecipeMismatch(f"the index at {index.path} has the {what} {there}, not {asked}")
