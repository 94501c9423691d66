"""Recipes: the digest covers every field, JSON keeps every value, and sizes and names are checked."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, dataclass, fields, replace

import pytest

from imgindex.errors import FormatTooNew, IndexDamaged, UsageError
from imgindex.recipe import DEFAULT, FIRST_FORMAT, POOL5_MEANS, RECIPES, Recipe, get_recipe

OTHER = {
    "name": "mine",
    "layer": "pool4",
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
    "offset": "mine-96",
    "offset_sha256": "cd" * 32,
    "draft_margin": 1.25,
    "scaling": "16-bit",
}
POOL5 = RECIPES["vgg16-pool5"]
WEIGHTS_SHA256 = "ab" * 32

# The text that indexes store of a recipe, and its SHA-256, which every segment file begins with. They are written here
# as they were first, and must never change: an index whose recipe has another digest cannot be extended.
GOLDEN = {
    "vgg16-fc1": (
        '{"alpha": "white", "channels": "rgb", "cut": "fc1", "dimension": 4096, "geometry": "letterbox", '
        '"mean": [0.485, 0.456, 0.406], "name": "vgg16-fc1", "network": "vgg16", "norm": "l2", "pooling": "none", '
        '"side": 448, "std": [0.229, 0.224, 0.225], "upright": true, "weights": "IMAGENET1K_V1", '
        '"weights_sha256": "abababababababababababababababababababababababababababababababab"}',
        "147e544dea80eb3a157da98064adcd55acdc2b689099563af0b15d05eec26a94",
    ),
    "vgg16-pool5": (
        '{"alpha": "white", "channels": "rgb", "cut": "pool5", "dimension": 512, "geometry": "letterbox", '
        '"mean": [0.48235, 0.45882, 0.40784], "name": "vgg16-pool5", "network": "vgg16", "norm": "l2", '
        '"pooling": "gem", "side": 224, "std": [0.00392156862745098, 0.00392156862745098, 0.00392156862745098], '
        '"upright": true, "weights": "oxford", '
        '"weights_sha256": "abababababababababababababababababababababababababababababababab"}',
        "06f2dd045e12e2d853752e8444a156ad4630881d7d0a3023adb7f30c4de0fa8f",
    ),
    "vgg16-pool5, less the mean": (
        '{"alpha": "visible", "channels": "rgb", "cut": "pool5", "dimension": 512, "geometry": "letterbox", '
        '"mean": [0.48235, 0.45882, 0.40784], "name": "vgg16-pool5", "network": "vgg16", "norm": "l2", "offset": '
        '"vgg16-pool5-320", "offset_sha256": "c50b68c9e99f4ad851ce53304d9e8521f10b69bdcf7094e480ca3f2272b37435", '
        '"pooling": "gem", "side": 320, "std": [0.00392156862745098, 0.00392156862745098, 0.00392156862745098], '
        '"upright": true, "weights": "oxford", "weights_sha256": '
        '"abababababababababababababababababababababababababababababababab"}',
        "cef7400149c56657cf3412c483716628f754afab617f1554c4e5f1f70acd3ca0",
    ),
    "vgg16-pool5, drafted nearer": (
        '{"alpha": "visible", "channels": "rgb", "cut": "pool5", "dimension": 512, "draft_margin": 1.5, '
        '"geometry": "letterbox", "mean": [0.48235, 0.45882, 0.40784], "name": "vgg16-pool5", "network": '
        '"vgg16", "norm": "l2", "offset": "vgg16-pool5-320", "offset_sha256": '
        '"c50b68c9e99f4ad851ce53304d9e8521f10b69bdcf7094e480ca3f2272b37435", "pooling": "gem", "side": '
        '320, "std": [0.00392156862745098, 0.00392156862745098, 0.00392156862745098], "upright": true, '
        '"weights": "oxford", "weights_sha256": '
        '"abababababababababababababababababababababababababababababababab"}',
        "ff2c1fd6163d5358c912b96b5d5db276e0854347a23b583da4280e709eef17c1",
    ),
    "vgg16-pool5, scaled with 16 bits": (
        '{"alpha": "visible", "channels": "rgb", "cut": "pool5", "dimension": 512, "draft_margin": 1.5, '
        '"geometry": "letterbox", "mean": [0.48235, 0.45882, 0.40784], "name": "vgg16-pool5", "network": '
        '"vgg16", "norm": "l2", "offset": "vgg16-pool5-320", "offset_sha256": '
        '"c50b68c9e99f4ad851ce53304d9e8521f10b69bdcf7094e480ca3f2272b37435", "pooling": "gem", "scaling": '
        '"16-bit", "side": 320, "std": [0.00392156862745098, 0.00392156862745098, 0.00392156862745098], '
        '"upright": true, "weights": "oxford", "weights_sha256": '
        '"abababababababababababababababababababababababababababababababab"}',
        "c7c0dbc25a8eeb826aaaf329a844228b68a1f0023fb96b4d3e1b7871d87d9841",
    ),
    "vgg16-pool5, visible": (
        '{"alpha": "visible", "channels": "rgb", "cut": "pool5", "dimension": 512, "geometry": "letterbox", '
        '"mean": [0.48235, 0.45882, 0.40784], "name": "vgg16-pool5", "network": "vgg16", "norm": "l2", '
        '"pooling": "gem", "side": 224, "std": [0.00392156862745098, 0.00392156862745098, 0.00392156862745098], '
        '"upright": true, "weights": "oxford", '
        '"weights_sha256": "abababababababababababababababababababababababababababababababab"}',
        "a5001095cca6b8dd74d11e6a1e7aa94e60a04c7dbce7f5e07b75f1e6c078c75b",
    ),
    "article": (
        '{"alpha": "drop", "channels": "bgr", "cut": "fc1", "dimension": 4096, "geometry": "article", '
        '"mean": [0.0, 0.0, 0.0], "name": "article", "network": "vgg16", "norm": "none", "pooling": "none", '
        '"side": 448, "std": [1.0, 1.0, 1.0], "upright": true, "weights": "IMAGENET1K_V1", '
        '"weights_sha256": "abababababababababababababababababababababababababababababababab"}',
        "e0c77fdb71ace91a1ac0e459f7fd6c97f04aa6ee9e355c81a8625193bd3787b6",
    ),
    "mine": (
        '{"alpha": "drop", "channels": "bgr", "cut": "pool4", "dimension": 7, "geometry": "article", '
        '"mean": [0.5, 0.5, 0.25], "name": "mine", "network": "vgg19", "norm": "none", "pooling": "average", '
        '"side": 96, "std": [0.5, 0.5, 0.25], "upright": false, "weights": "mine.pth", '
        '"weights_sha256": "abababababababababababababababababababababababababababababababab"}',
        "5ea0aebb71997b3fbfa21a67b3eb7d00078533c3339f9a157171efc6ce39cd26",
    ),
}


@dataclass(frozen=True, slots=True)
class LaterRecipe(Recipe):
    """The recipe of a later version, which has one field more."""

    token: str = "mean"


def golden(name: str) -> Recipe:
    if name == "mine":
        return Recipe(**{**OTHER, "offset": "", "offset_sha256": "", "draft_margin": 2.0, "scaling": "pillow"})
    recipe = replace(RECIPES[name.partition(",")[0]], weights_sha256=WEIGHTS_SHA256)
    if name == "vgg16-pool5, scaled with 16 bits":
        return recipe
    recipe = replace(recipe, scaling="pillow")
    if name == "vgg16-pool5, drafted nearer":
        return recipe
    recipe = replace(recipe, draft_margin=2.0)
    if name == "vgg16-pool5, less the mean":
        return recipe
    if recipe.name == "vgg16-pool5":
        # Until the default became 320 px less a mean.
        recipe = replace(recipe, side=224, offset="", offset_sha256="")
    # The first indexes composed transparency on white; they keep that.
    return replace(recipe, alpha="white") if name in {"vgg16-fc1", "vgg16-pool5"} else recipe


@pytest.mark.parametrize("name", GOLDEN)
def test_the_stored_json_and_the_digest_are_those_of_every_earlier_version(name: str) -> None:
    assert (golden(name).to_json(), golden(name).digest) == GOLDEN[name]
    assert Recipe.from_json(GOLDEN[name][0]) == golden(name)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_new_field_with_its_default_changes_no_digest(name: str) -> None:
    later = LaterRecipe(**{field.name: getattr(golden(name), field.name) for field in fields(Recipe)})
    assert (later.to_json(), later.digest) == GOLDEN[name]
    assert LaterRecipe.from_json(GOLDEN[name][0]) == later


def test_a_new_field_with_another_value_is_stored_and_changes_the_digest() -> None:
    later = LaterRecipe(**OTHER, token="class")
    fields_since = {"offset": "mine-96", "offset_sha256": "cd" * 32, "draft_margin": 1.25, "scaling": "16-bit"}
    assert json.loads(later.to_json()) == {**json.loads(GOLDEN["mine"][0]), **fields_since, "token": "class"}
    assert later.digest != GOLDEN["mine"][1]
    assert LaterRecipe.from_json(later.to_json()) == later


def test_a_recipe_with_a_field_of_a_later_version_is_newer_and_not_damaged() -> None:
    with pytest.raises(FormatTooNew, match="not known: token"):
        Recipe.from_json(LaterRecipe(**OTHER, token="class").to_json())


def test_a_field_of_the_first_format_is_stored_although_it_has_its_default() -> None:
    assert {field.name for field in fields(Recipe)} >= FIRST_FORMAT
    assert len(json.loads(Recipe("mine", "fc1", "mine.pth", "", 32, 4096).to_json())) == len(FIRST_FORMAT) == 15


def test_every_field_has_another_value_in_this_test() -> None:
    assert OTHER.keys() == {field.name for field in fields(Recipe)}


@pytest.mark.parametrize("field", OTHER)
def test_the_digest_changes_with_every_field(field: str) -> None:
    other = "pillow" if field == "scaling" else OTHER[field]  # POOL5 has that of OTHER
    assert replace(POOL5, **{field: other}).digest != POOL5.digest


@pytest.mark.parametrize("side", [0, -1, 4097, 2**63])
def test_a_side_that_no_picture_could_have_is_damage(side: int) -> None:
    with pytest.raises(IndexDamaged, match="recipe"):
        Recipe.from_json(replace(POOL5, side=side).to_json())


def test_a_scaling_that_is_not_known_is_not_taken_for_another() -> None:
    with pytest.raises(IndexDamaged, match="recipe"):
        Recipe.from_json(POOL5.to_json().replace("16-bit", "nearest"))


def test_the_digest_depends_on_the_order_of_the_mean() -> None:
    assert replace(POOL5, mean=POOL5.mean[::-1]).digest != POOL5.digest


def test_equal_recipes_have_one_digest() -> None:
    assert get_recipe("vgg16-pool5", size=320).digest == POOL5.digest
    assert replace(POOL5, side=96).digest == replace(POOL5, side=96).digest


@pytest.mark.parametrize("recipe", [*RECIPES.values(), replace(POOL5, **OTHER)], ids=lambda recipe: recipe.name)
def test_json_keeps_every_value(recipe: Recipe) -> None:
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert again.digest == recipe.digest


def test_the_digest_does_not_depend_on_the_order_in_which_fields_are_declared() -> None:
    assert list(json.loads(POOL5.to_json())) == sorted("cut" if name == "layer" else name for name in OTHER)


def test_json_with_other_white_space_gives_the_same_recipe() -> None:
    spaced = json.dumps(json.loads(POOL5.to_json()), indent=2)
    assert Recipe.from_json(spaced).digest == POOL5.digest


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        POOL5.side = 96  # type: ignore[misc]


@pytest.mark.parametrize("size", [32, 96, 160, 224, 320, 1024])
def test_a_size_becomes_the_side_and_makes_another_recipe(size: int) -> None:
    recipe = get_recipe("vgg16-pool5", size=size)
    assert replace(recipe, offset="", offset_sha256="") == replace(POOL5, side=size, offset="", offset_sha256="")
    assert (recipe.digest == POOL5.digest) == (size == POOL5.side)


@pytest.mark.parametrize(
    ("size", "mean"), [(32, 96), (96, 96), (128, 128), (256, 224), (288, 320), (320, 320), (384, 320), (1024, 448)]
)
def test_a_size_subtracts_the_mean_of_its_own_or_of_the_nearest_size(size: int, mean: int) -> None:
    recipe = get_recipe("vgg16-pool5", size=size)
    assert (recipe.offset, recipe.offset_sha256) == (f"vgg16-pool5-{mean}", POOL5_MEANS[mean])


@pytest.mark.parametrize("size", [-32, 0, 1, 33, 100, 1056])
def test_a_size_that_is_not_a_multiple_of_32_from_32_to_1024_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match=f"size {size} ") as error:
        get_recipe("vgg16-pool5", size=size)
    assert "224" in error.value.hint
    assert error.value.exit_code == 2


@pytest.mark.parametrize("name", ["vgg16-fc1", "article"])
def test_a_recipe_with_a_fully_connected_layer_has_one_size(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} always takes images of 448 pixels") as error:
        get_recipe(name, size=224)
    assert "vgg16-pool5" in error.value.hint


@pytest.mark.parametrize("name", ["vgg19", "VGG16-FC1", "", "auto"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match=f"unknown recipe {name!r}") as error:
        get_recipe(name)
    assert all(known in error.value.hint for known in RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_name_gives_the_recipe_of_that_name(name: str) -> None:
    assert get_recipe(name) == RECIPES[name]
    assert get_recipe(name).name == name


def test_the_default_is_the_recipe_whose_weights_are_shipped() -> None:
    assert get_recipe() == RECIPES[DEFAULT] == POOL5
    assert POOL5.weights == "oxford"
