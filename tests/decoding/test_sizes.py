"""The sizes of pictures after they are scaled: proportions stay, nothing vanishes, small pictures are not enlarged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imgindex.decoding.sizes import reduced_size, scaled_size, shape_of
from imgindex.recipe import RECIPES


@pytest.mark.parametrize(
    ("size", "scaled"),
    [
        ((500, 375), (224, 168)),
        ((375, 500), (168, 224)),
        ((10, 10), (224, 224)),
        ((1, 5000), (1, 224)),
        ((1, 1), (224, 224)),
    ],
    ids=str,
)
def test_the_longer_side_becomes_the_wanted_one_and_no_side_vanishes(
    size: tuple[int, int], scaled: tuple[int, int]
) -> None:
    assert scaled_size(size, 224) == scaled


@pytest.mark.parametrize(
    ("size", "reduced"), [((500, 375), (224, 168)), ((224, 100), (224, 100)), ((30, 20), (30, 20))], ids=str
)
def test_a_picture_that_is_small_enough_stays_as_it_is(size: tuple[int, int], reduced: tuple[int, int]) -> None:
    assert reduced_size(size, 224) == reduced


def test_networks_see_squares_and_comparisons_the_shape_of_the_picture() -> None:
    recipe = RECIPES["vgg16-pool5"]
    assert shape_of(recipe, 500, 375) == (recipe.side, recipe.side, 3)
    assert shape_of(replace(recipe, geometry="reduced", side=200), 500, 375) == (150, 200, 3)
