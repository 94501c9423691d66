"""The network: torchvision's VGG-16 up to the layer of the recipe, and nothing after it."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from imgindex.encoders.vgg.layers import shapes
from imgindex.encoders.vgg.network import VggNetwork, generalised_mean

# 64 px leave 2 × 2 maps, 224 px leave the 7 × 7 that are not pooled, 256 px leave 8 × 8.
SIDES = (64, 224, 256)


@pytest.fixture(scope="module")
def vgg16() -> nn.Module:
    torch.manual_seed(11)
    return torchvision.models.vgg16().eval()


def network_up_to(layer: str, model: nn.Module) -> VggNetwork:
    network = VggNetwork(layer)
    state = model.state_dict()
    network.load_state_dict({name: state[name] for name in shapes(layer)}, assign=True)
    return network.eval()


def pictures(side: int) -> Tensor:
    return torch.rand((2 if side < 128 else 1, 3, side, side), generator=torch.Generator().manual_seed(side))


@pytest.mark.parametrize("side", SIDES)
def test_fc1_is_torchvisions_first_fully_connected_layer_without_its_relu(vgg16: nn.Module, side: int) -> None:
    whole = nn.Sequential(vgg16.features, vgg16.avgpool, nn.Flatten(), vgg16.classifier[0])
    with torch.inference_mode():
        expected, vectors = whole(pictures(side)), network_up_to("fc1", vgg16)(pictures(side))
    assert vectors.shape == (len(expected), 4096)
    assert (expected < 0).any()
    torch.testing.assert_close(vectors, expected)


def test_memory_format_does_not_change_fc1(vgg16: nn.Module) -> None:
    network = network_up_to("fc1", vgg16)
    with torch.inference_mode():
        expected = network(pictures(64))
        vectors = network.to(memory_format=torch.channels_last)(
            pictures(64).contiguous(memory_format=torch.channels_last)
        )
    torch.testing.assert_close(vectors, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [32, 96, 160])
def test_pool5_is_the_cubic_mean_of_torchvisions_last_maps(vgg16: nn.Module, side: int) -> None:
    with torch.inference_mode():
        maps = vgg16.features(pictures(side))
        vectors = network_up_to("pool5", vgg16)(pictures(side))
    assert maps.shape[2:] == (side // 32, side // 32)
    assert vectors.shape == (len(maps), 512)
    torch.testing.assert_close(vectors, (maps**3).mean(dim=(2, 3)) ** (1 / 3), rtol=1e-4, atol=1e-5)


def test_the_generalised_mean_is_the_formula() -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[5.0, 5.0], [5.0, 5.0]]]])
    torch.testing.assert_close(generalised_mean(maps), torch.tensor([[25.0 ** (1 / 3), 5.0]]))


def test_the_generalised_mean_of_zeros_is_finite_and_near_zero() -> None:
    pooled = generalised_mean(torch.zeros(1, 4, 7, 7))
    assert pooled.isfinite().all()
    assert pooled.max() < 1e-5


def test_the_generalised_mean_of_half_precision_maps_does_not_overflow() -> None:
    # 400 cubed is beyond the largest fp16 number.
    pooled = generalised_mean(torch.full((1, 1, 3, 3), 400.0, dtype=torch.float16))
    torch.testing.assert_close(pooled, torch.tensor([[400.0]]))


@pytest.mark.parametrize("layer", ["pool5", "fc1"])
def test_only_the_layers_that_the_recipe_needs_exist(layer: str) -> None:
    assert {name: tuple(tensor.shape) for name, tensor in VggNetwork(layer).state_dict().items()} == shapes(layer)


@pytest.mark.parametrize("layer", ["pool5", "fc1"])
def test_a_network_takes_no_memory_before_its_weights_are_loaded(layer: str) -> None:
    assert {parameter.device.type for parameter in VggNetwork(layer).parameters()} == {"meta"}
