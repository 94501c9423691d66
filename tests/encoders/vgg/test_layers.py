"""The tensors that VGG-16 needs: torchvision's, and no others."""

from __future__ import annotations

import pytest
import torch
import torchvision

from imgindex.encoders.vgg.layers import convolution_names, shapes
from imgindex.errors import UsageError


def test_the_tensors_of_a_layer_are_those_of_torchvision_up_to_it() -> None:
    with torch.device("meta"):
        whole = {name: tuple(tensor.shape) for name, tensor in torchvision.models.vgg16().state_dict().items()}
    convolutions = {name: shape for name, shape in whole.items() if name.startswith("features.")}
    first = {name: whole[name] for name in ("classifier.0.weight", "classifier.0.bias")}
    assert shapes("pool5") == convolutions
    assert shapes("fc1") == convolutions | first
    assert [f"{name}.weight" for name in convolution_names()] == [name for name in convolutions if "weight" in name]


@pytest.mark.parametrize("layer", ["pool4", "fc2", "", "FC1"])
def test_an_unknown_layer_is_refused_with_the_known_ones(layer: str) -> None:
    with pytest.raises(UsageError, match=f"no vectors from the layer {layer!r}") as error:
        shapes(layer)
    assert error.value.hint == "choose fc1 or pool5"
