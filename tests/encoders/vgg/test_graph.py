"""The OpenVINO graph computes what torch's VGG-16 computes, in fp32 exactly and in int8 but for rounding."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from imgindex.encoders.base import WeightsFile
from imgindex.encoders.cpu import CpuEncoder, drawn_pictures
from imgindex.encoders.vgg import graph
from imgindex.encoders.vgg.graph import VggGraphs, sample_photographs
from imgindex.encoders.vgg.layers import convolution_names, shapes
from imgindex.encoders.vgg.network import VggNetwork
from imgindex.encoders.weights import load_weights, locate_weights
from imgindex.errors import WeightsMismatch
from imgindex.recipe import POOL5_MEANS, RECIPES, Recipe, get_recipe
from imgindex.types import Pixels, Vectors

POOL5 = replace(RECIPES["vgg16-pool5"], side=96, offset="", offset_sha256="")
FC1 = replace(RECIPES["vgg16-fc1"], side=64)
RANDOM = {"vgg16-fc1": "random:3", "vgg16-pool5": "oxford"}


@functools.cache
def _read(weights: WeightsFile) -> dict[str, Vectors]:
    return load_weights(weights, shapes("fc1" if weights.source.startswith("random:") else "pool5"))


def read_once(weights: WeightsFile, wanted: dict[str, tuple[int, ...]]) -> dict[str, Vectors]:
    """The tensors of weights: random ones, half a gigabyte up to fc1, take seconds to draw."""
    found = _read(weights)
    return {name: found[name] for name in wanted} if wanted.keys() <= found.keys() else load_weights(weights, wanted)


@pytest.fixture(scope="module", autouse=True)
def weights_are_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "load_weights", read_once)
        yield
    _read.cache_clear()


def graphs(recipe: Recipe) -> VggGraphs:
    return VggGraphs(recipe, locate_weights(RANDOM[recipe.name]))


def by_torch(recipe: Recipe, pictures: Pixels, weights: str) -> Vectors:
    state = read_once(locate_weights(weights), shapes(recipe.layer))
    network = VggNetwork(recipe, state, torch.device("cpu"), torch.float32)
    with torch.inference_mode():
        padded = network.new_input(len(pictures), recipe.side)
        found: Vectors = network.outputs(torch.from_numpy(pictures), padded).numpy()
    return found


def cosines(one: Any, other: Any) -> Any:
    return (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


@pytest.mark.parametrize(
    "recipe",
    [POOL5, replace(POOL5, channels="bgr"), FC1, replace(FC1, side=224)],
    ids=lambda recipe: f"{recipe.name}-{recipe.side}-{recipe.channels}",
)
def test_fp32_is_torchs_vgg_16(recipe: Recipe) -> None:
    pictures = drawn_pictures(2, recipe.side)
    expected = by_torch(recipe, pictures, RANDOM[recipe.name])
    found = CpuEncoder(recipe, graphs(recipe), "fp32").outputs(pictures)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("recipe", [POOL5, FC1], ids=lambda recipe: recipe.name)
def test_int8_is_torchs_vgg_16_but_for_rounding(recipe: Recipe) -> None:
    pictures = drawn_pictures(3, recipe.side)
    expected = by_torch(recipe, pictures, RANDOM[recipe.name])
    found = CpuEncoder(recipe, graphs(recipe), "int8").outputs(pictures)
    assert cosines(found, expected).min() > 0.99
    assert (found != expected).any()


def test_the_colour_of_the_mean_around_a_picture_is_the_zeros_of_its_padding() -> None:
    made = graphs(POOL5)
    assert list(made.border) == [123, 117, 104]
    # The ground is zero after the normalisation, so any other colour around it would show as an edge.
    picture = np.tile(np.array([123, 117, 104], np.uint8), (1, 96, 96, 1))
    picture[:, 32:64, 32:64] = drawn_pictures(1, 32)
    exact = CpuEncoder(POOL5, made, "fp32").outputs(picture)
    assert cosines(exact, CpuEncoder(POOL5, made, "int8").outputs(picture)).min() > 0.99
    made.border = np.zeros(3, np.uint8)
    assert cosines(exact, CpuEncoder(POOL5, made, "int8").outputs(picture)).max() < 0.98


def test_the_greatest_numbers_of_the_channels_are_torchs() -> None:
    pictures = drawn_pictures(2, 64)
    found = graphs(POOL5).channel_maxima(pictures)
    state = load_weights(locate_weights("oxford"), shapes("pool5"))
    maps = torch.from_numpy((pictures / 255 - np.array(POOL5.mean)) / np.array(POOL5.std)).float().permute(0, 3, 1, 2)
    for number, name in enumerate(convolution_names()[:4]):
        weight, bias = (torch.from_numpy(state[f"{name}.{part}"].copy()) for part in ("weight", "bias"))
        maps = torch.conv2d(maps, weight, bias, padding=1).relu()
        np.testing.assert_allclose(found[number], maps.amax((0, 2, 3)).numpy(), rtol=1e-3, atol=1e-2)
        if number % 2:
            maps = torch.max_pool2d(maps, 2)


@pytest.mark.parametrize("side", POOL5_MEANS)
def test_the_known_output_is_that_of_fp32(side: int) -> None:
    recipe = get_recipe("vgg16-pool5", size=side)
    made = graphs(recipe)
    known = made.reference(side)
    np.testing.assert_allclose(
        CpuEncoder(recipe, made, "fp32").outputs(drawn_pictures(1, side))[0], known, rtol=1e-3, atol=1e-3
    )


def test_an_output_is_not_known_for_other_sides_weights_and_layers() -> None:
    assert graphs(POOL5).reference(64) is None
    assert VggGraphs(POOL5, locate_weights("random:3")).reference(96) is None
    assert graphs(FC1).reference(448) is None


def test_networks_that_differ_have_keys_that_differ() -> None:
    keys = {
        graphs(POOL5).key,
        graphs(replace(POOL5, channels="bgr")).key,
        graphs(replace(POOL5, mean=(0.0, 0.0, 0.0))).key,
        VggGraphs(POOL5, locate_weights("random:3")).key,
        graphs(FC1).key,
    }
    assert len(keys) == 5


def test_weights_without_the_recipes_layer_are_refused() -> None:
    with pytest.raises(WeightsMismatch, match="lacks classifier"):
        VggGraphs(FC1, locate_weights("oxford"))


def test_weights_whose_ranges_are_not_known_are_tried_on_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oxford's weights, as if they were a file of the user's: int8 is nearly as good as with the known ranges."""
    pictures = sample_photographs(96)[5:]
    expected = CpuEncoder(POOL5, graphs(POOL5), "fp32").outputs(pictures)
    known = CpuEncoder(POOL5, graphs(POOL5), "int8").outputs(pictures)
    monkeypatch.setattr(graph, "SHIPPED", "another file")
    made = graphs(POOL5)
    assert made.reference(96) is None
    found = CpuEncoder(POOL5, made, "int8").outputs(pictures)
    assert (found != known).any()
    assert cosines(found, expected).min() > 0.99
    # Photographs that it was not tried on, and drawings.
    for others in (np.ascontiguousarray(pictures[:, ::-1]), drawn_pictures(3, 96)):
        exact = CpuEncoder(POOL5, made, "fp32").outputs(others)
        assert cosines(CpuEncoder(POOL5, made, "int8").outputs(others), exact).min() > 0.98
    monkeypatch.setattr(VggGraphs, "channel_maxima", lambda self, pictures: pytest.fail("tried again"))
    assert np.array_equal(CpuEncoder(POOL5, graphs(POOL5), "int8").outputs(pictures), found)


def test_the_sample_photographs_are_ten_different_pictures() -> None:
    pictures = sample_photographs(64)
    assert (pictures.shape, pictures.dtype) == ((10, 64, 64, 3), np.uint8)
    assert len(np.unique(pictures.reshape(10, -1), axis=0)) == 10
