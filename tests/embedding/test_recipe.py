"""Recipes: the digest speaks of every field, JSON loses nothing, and sizes and names are checked."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields, replace

import pytest

from imgindex.embedding.recipe import RECIPES, Recipe, named
from imgindex.errors import UsageError

OTHER = {
    "name": "mine",
    "cut": "pool4",
    "weights": "mine.pth",
    "weights_sha256": "ab" * 32,
    "side": 96,
    "dimension": 7,
    "geometry": "article",
    "alpha": "drop",
    "channels": "bgr",
    "mean": (0.5, 0.5, 0.25),
    "std": (0.5, 0.5, 0.25),
    "pooling": "average",
    "norm": "none",
    "upright": False,
    "network": "vgg19",
}
POOL5 = RECIPES["vgg16-pool5"]


def test_every_field_has_another_value_in_this_test() -> None:
    assert OTHER.keys() == {field.name for field in fields(Recipe)}


@pytest.mark.parametrize("field", OTHER)
def test_the_digest_changes_with_every_field(field: str) -> None:
    assert replace(POOL5, **{field: OTHER[field]}).digest != POOL5.digest


def test_the_order_of_mean_and_channels_counts() -> None:
    assert replace(POOL5, mean=POOL5.mean[::-1]).digest != POOL5.digest


def test_equal_recipes_have_one_digest() -> None:
    assert named("vgg16-pool5", size=224).digest == POOL5.digest
    assert replace(POOL5, side=96).digest == replace(POOL5, side=96).digest


@pytest.mark.parametrize("recipe", [*RECIPES.values(), replace(POOL5, **OTHER)], ids=lambda recipe: recipe.name)
def test_json_loses_nothing(recipe: Recipe) -> None:
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert again.digest == recipe.digest


def test_the_digest_does_not_hang_on_the_order_in_which_fields_are_declared() -> None:
    assert list(json.loads(POOL5.to_json())) == sorted(OTHER)


def test_a_catalogue_may_have_written_the_json_otherwise() -> None:
    spaced = json.dumps(json.loads(POOL5.to_json()), indent=2)
    assert Recipe.from_json(spaced).digest == POOL5.digest


def test_a_recipe_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        POOL5.side = 96  # type: ignore[misc]


@pytest.mark.parametrize("size", [32, 96, 160, 224, 320, 1024])
def test_a_size_becomes_the_side_and_makes_another_recipe(size: int) -> None:
    recipe = named("vgg16-pool5", size=size)
    assert recipe == replace(POOL5, side=size)
    assert (recipe.digest == POOL5.digest) == (size == POOL5.side)


@pytest.mark.parametrize("size", [-32, 0, 1, 33, 100, 1056])
def test_a_size_that_is_no_multiple_of_32_from_32_to_1024_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match=f"size {size} ") as error:
        named("vgg16-pool5", size=size)
    assert "224" in error.value.hint
    assert error.value.exit_code == 2


@pytest.mark.parametrize("name", ["vgg16-fc1", "article"])
def test_a_recipe_with_a_fully_connected_layer_has_one_size(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} always sees 448 pixels") as error:
        named(name, size=224)
    assert "vgg16-pool5" in error.value.hint


@pytest.mark.parametrize("name", ["vgg19", "VGG16-FC1", "", "auto"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match="no recipe") as error:
        named(name)
    assert all(known in error.value.hint for known in RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_name_gives_the_recipe_of_that_name(name: str) -> None:
    assert named(name) == RECIPES[name]
    assert named(name).name == name
