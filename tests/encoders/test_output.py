"""The last step of an encoder: lengths of 1, and the mean of the recipe subtracted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from imgindex.encoders.output import finish, offset_vector
from imgindex.errors import RecipeMismatch
from imgindex.recipe import POOL5_MEANS, RECIPES, get_recipe

PLAIN = replace(RECIPES["vgg16-pool5"], offset="", offset_sha256="")
OUTPUTS = np.random.default_rng(1).random((4, 512), dtype=np.float32) * 30


def test_vectors_have_the_length_1() -> None:
    vectors = finish(OUTPUTS, PLAIN)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, OUTPUTS / np.linalg.norm(OUTPUTS, axis=1, keepdims=True), rtol=1e-6)


def test_the_norm_none_keeps_the_outputs() -> None:
    assert np.array_equal(finish(OUTPUTS, replace(PLAIN, norm="none")), OUTPUTS)


@pytest.mark.parametrize("side", POOL5_MEANS)
def test_the_mean_is_subtracted_from_vectors_of_length_1_and_the_rest_has_the_length_1(side: int) -> None:
    recipe = get_recipe("vgg16-pool5", size=side)
    mean = offset_vector(recipe)
    assert mean.shape == (512,)
    rest = OUTPUTS / np.linalg.norm(OUTPUTS, axis=1, keepdims=True) - mean
    expected = rest / np.linalg.norm(rest, axis=1, keepdims=True)
    vectors = finish(OUTPUTS, recipe)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_each_side_has_a_mean_of_its_own() -> None:
    means = [offset_vector(get_recipe("vgg16-pool5", size=side)) for side in POOL5_MEANS]
    assert len(np.unique(np.stack(means), axis=0)) == len(POOL5_MEANS)


@pytest.mark.parametrize("recipe", [PLAIN, RECIPES["vgg16-pool5"]])
def test_a_vector_of_zeros_stays_one(recipe: object) -> None:
    assert not finish(np.zeros((2, 512), np.float32), recipe).any()


def test_a_vector_does_not_depend_on_the_others_of_its_batch() -> None:
    together = finish(OUTPUTS, RECIPES["vgg16-pool5"])
    alone = [finish(OUTPUTS[at : at + 1], RECIPES["vgg16-pool5"]) for at in range(len(OUTPUTS))]
    assert np.array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize("change", [{"offset": "vgg16-pool5-672"}, {"offset_sha256": "00" * 32}])
def test_a_mean_that_this_version_does_not_have_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(RecipeMismatch, match="less a mean") as error:
        finish(OUTPUTS, replace(RECIPES["vgg16-pool5"], **change))
    assert "`path=DIR`" in error.value.hint
