"""The network: torchvision's VGG-16 up to the layer of the recipe, from pixels, in any precision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from imgindex.encoders.vgg.layers import shapes
from imgindex.encoders.vgg.network import CHANNELS, SCALE, VggNetwork, generalised_mean, max_pooled
from imgindex.encoders.weights import load_weights, locate_weights
from imgindex.recipe import RECIPES, Recipe

CPU = torch.device("cpu")
POOL5 = replace(RECIPES["vgg16-pool5"], side=64)
FC1 = replace(RECIPES["vgg16-fc1"], side=64)
# 64 px leave 2 × 2 maps, 224 px leave the 7 × 7 that are not pooled, 256 px leave 8 × 8.
SIDES = (64, 224, 256)


@pytest.fixture(scope="module")
def vgg16() -> nn.Module:
    torch.manual_seed(11)
    return torchvision.models.vgg16().eval()


def network_of(recipe: Recipe, weights: Any, dtype: torch.dtype = torch.float32) -> VggNetwork:
    if isinstance(weights, nn.Module):
        state = weights.state_dict()
        weights = {name: state[name].numpy() for name in shapes(recipe.layer)}
    return VggNetwork(recipe, weights, CPU, dtype)


@pytest.fixture(scope="module")
def oxford() -> Any:
    return load_weights(locate_weights("oxford"), shapes("pool5"))


def pictures(side: int, count: int = 2) -> Tensor:
    cells = torch.randint(0, 256, (count, side // 4, side // 4, 3), generator=torch.Generator().manual_seed(side))
    return cells.repeat_interleave(4, 1).repeat_interleave(4, 2).to(torch.uint8)


@torch.inference_mode()
def outputs(network: VggNetwork, pixels: Tensor) -> Tensor:
    return network.outputs(pixels, network.new_input(len(pixels), pixels.shape[1]))


def normalised(pixels: Tensor, recipe: Recipe) -> Tensor:
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (recipe.mean, recipe.std))
    return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std


@pytest.mark.parametrize("side", SIDES)
def test_fc1_is_torchvisions_first_fully_connected_layer_without_its_relu(vgg16: nn.Module, side: int) -> None:
    whole = nn.Sequential(vgg16.features, vgg16.avgpool, nn.Flatten(), vgg16.classifier[0])
    pixels = pictures(side, 2 if side < 128 else 1)
    with torch.inference_mode():
        expected = whole(normalised(pixels, FC1))
    vectors = outputs(network_of(FC1, vgg16), pixels)
    assert vectors.shape == (len(expected), 4096)
    assert (expected < 0).any()
    torch.testing.assert_close(vectors, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [32, 96, 160])
def test_pool5_is_the_cubic_mean_of_torchvisions_last_maps(vgg16: nn.Module, side: int) -> None:
    pixels = pictures(side)
    with torch.inference_mode():
        maps = vgg16.features(normalised(pixels, POOL5))
    vectors = outputs(network_of(POOL5, vgg16), pixels)
    assert vectors.shape == (len(maps), 512)
    torch.testing.assert_close(vectors, (maps**3).mean(dim=(2, 3)) ** (1 / 3), rtol=1e-4, atol=1e-4)


def test_the_border_of_a_convolution_is_zero_after_the_normalisation(vgg16: nn.Module) -> None:
    # Pictures of the mean's colour are zeros for the network; a border of black pixels would be seen beside them.
    grey = replace(POOL5, mean=(0.5, 0.5, 0.5), std=(1 / 255,) * 3)
    pixels = torch.full((1, 64, 64, 3), 128, dtype=torch.uint8)
    with torch.inference_mode():
        expected = generalised_mean(vgg16.features(normalised(pixels, grey)))
    torch.testing.assert_close(outputs(network_of(grey, vgg16), pixels), expected, rtol=1e-4, atol=1e-4)


def test_bgr_pixels_are_normalised_by_the_reversed_mean_and_deviation(oxford: Any) -> None:
    recipe = replace(POOL5, std=(0.2, 0.3, 0.4))
    first = network_of(recipe, oxford)
    backwards = network_of(replace(recipe, channels="bgr"), oxford)
    pixels = pictures(32)
    inputs = [network.new_input(2, 32) for network in (first, backwards)]
    first.outputs(pixels, inputs[0])
    backwards.outputs(pixels.flip(-1), inputs[1])
    torch.testing.assert_close(inputs[0][..., :3], inputs[1][..., :3].flip(-1))
    torch.testing.assert_close(inputs[0][..., :3].permute(0, 3, 1, 2), normalised(pixels, recipe) * SCALE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_input_is_the_fp32_normalisation_rounded_once(oxford: Any, dtype: torch.dtype) -> None:
    network, exact = network_of(POOL5, oxford, dtype), network_of(POOL5, oxford)
    pixels = pictures(32)
    found, right = network.new_input(2, 32), exact.new_input(2, 32)
    network.outputs(pixels, found)
    exact.outputs(pixels, right)
    assert torch.equal(found, right.to(dtype))
    assert found.shape == (2, 32, 32, CHANNELS)
    assert (found[..., 3] == SCALE).all()
    assert not found[..., 4:].any()


def test_the_padded_channels_change_nothing_but_add_the_first_bias(oxford: Any) -> None:
    network = network_of(POOL5, oxford)
    pixels = normalised(pictures(64), POOL5)
    weight, bias = (torch.tensor(oxford[f"features.0.{part}"]).float() for part in ("weight", "bias"))
    padded = network.new_input(2, 64)
    padded[..., :3] = pixels.permute(0, 2, 3, 1) * SCALE
    first = network._layers[0]
    assert first.bias is None
    found = torch.conv2d(padded.permute(0, 3, 1, 2), first.weight, padding=1)
    torch.testing.assert_close(found / SCALE, torch.conv2d(pixels, weight, bias, padding=1), rtol=1e-4, atol=1e-3)


def cosines(one: Tensor, other: Tensor) -> Tensor:
    return torch.cosine_similarity(one.double(), other.double())


def test_fp16_differs_from_fp32_less_than_bf16_does(oxford: Any) -> None:
    pixels = pictures(96, 4)
    exact = outputs(network_of(POOL5, oxford), pixels)
    half = 1 - cosines(outputs(network_of(POOL5, oxford, torch.float16), pixels), exact)
    brain = 1 - cosines(outputs(network_of(POOL5, oxford, torch.bfloat16), pixels), exact)
    assert half.max() < 1e-5
    assert brain.max() < 1e-3
    assert half.max() < brain.max()


def test_activations_stay_far_from_the_largest_number_of_fp16(oxford: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    greatest = []
    relu = Tensor.relu_

    def observed(maps: Tensor) -> Tensor:
        greatest.append(float(maps.abs().max()))
        return relu(maps)

    monkeypatch.setattr(Tensor, "relu_", observed)
    extremes = torch.stack([pictures(64, 1)[0], torch.full((64, 64, 3), 255, dtype=torch.uint8)])
    extremes = torch.cat([extremes, (pictures(64, 1) > 127).to(torch.uint8) * 255])
    found = outputs(network_of(POOL5, oxford, torch.float16), extremes)
    assert found.isfinite().all()
    assert len(greatest) == 13
    # Without the factor they would be 16 times as large, and not far from 65,504.
    assert 1000 / 16 < max(greatest) < 65504 / 8


def test_the_factor_changes_no_bit_of_fp32(oxford: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = pictures(64)
    expected = outputs(network_of(POOL5, oxford), pixels)
    monkeypatch.setattr("imgindex.encoders.vgg.network.SCALE", 1.0)
    assert torch.equal(outputs(network_of(POOL5, oxford), pixels), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_pooling_by_slices_is_max_pooling_and_keeps_the_memory_format(dtype: torch.dtype) -> None:
    maps = torch.randn(2, 8, 6, 10).to(dtype).contiguous(memory_format=torch.channels_last)
    found = max_pooled(maps)
    assert torch.equal(found, torch.max_pool2d(maps, 2))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_maps_are_pooled_before_the_bias_and_no_fused_operator_is_called(
    oxford: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # cudnn_convolution_relu adds memory that nobody has written, with a weight of 0: NaN there would be seen.
    class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
            found = function(*arguments, **(named or {}))
            called.append((function.overloadpacket.__name__, getattr(found, "shape", None)))
            return found

    called: list[tuple[str, Any]] = []
    network = network_of(POOL5, oxford)
    with Recorder():
        network.outputs(pictures(64), network.new_input(2, 64))
    names = [name for name, _ in called]
    assert not [name for name in names if "cudnn" in name or "max_pool" in name]
    added = [shape for name, shape in called if name == "add_"]
    # Of 64 channels only the second layer adds a bias: the first one has it in its kernel.
    assert [tuple(shape[1:]) for shape in added[:3]] == [(64, 32, 32), (128, 32, 32), (128, 16, 16)]
    assert len(added) == 12


def test_the_generalised_mean_is_the_formula() -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[5.0, 5.0], [5.0, 5.0]]]])
    torch.testing.assert_close(generalised_mean(maps), torch.tensor([[25.0 ** (1 / 3), 5.0]]))


def test_the_generalised_mean_of_zeros_is_finite_and_near_zero() -> None:
    pooled = generalised_mean(torch.zeros(1, 4, 7, 7))
    assert pooled.isfinite().all()
    assert pooled.max() < 1e-5


def test_weights_that_are_mapped_are_not_written_to(oxford: Any) -> None:
    frozen = {name: np.array(array) for name, array in oxford.items()}
    for array in frozen.values():
        array.flags.writeable = False
    assert torch.equal(
        outputs(network_of(POOL5, frozen), pictures(32)), outputs(network_of(POOL5, oxford), pictures(32))
    )
