"""VGG-16 as an OpenVINO graph, in fp32, bf16 or int8, made of the tensors of a weights file."""

from __future__ import annotations

import functools
import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

from imgindex.encoders.base import WeightsFile
from imgindex.encoders.cpu import compiled, normalised, picture_input, quantised, quantised_weight, weight_limit
from imgindex.encoders.devices import cpu_threads
from imgindex.encoders.vgg.layers import FC1, FC1_SIDE, GEM_LEAST, GEM_POWER, LAYERS, convolution_names, shapes
from imgindex.encoders.vgg.quantise import Convolution, equalised, rounded
from imgindex.encoders.weights import SHIPPED, load_weights
from imgindex.recipe import Recipe
from imgindex.types import Pixels, Vectors

RANGES = "vgg16_conv_oxford_ranges.npz"
# Other weights are tried on scikit-learn's two sample photographs, and on quarters of them, at this side. Further
# photographs reach higher, so the greatest numbers are multiplied by MARGIN; and a channel that hardly reacted to two
# photographs may react to others, so none is taken to stay below LEAST_SHARE of the greatest channel.
PHOTOGRAPHS = ("china.jpg", "flower.jpg")
SAMPLE_SIDE = 160
MARGIN = 1.5
LEAST_SHARE = 0.5
# By `VggGraphs.key`: an encoder that is made again need not try its weights again.
_MAXIMA: dict[str, list[Vectors]] = {}


class VggGraphs:
    """The graphs of a recipe's VGG-16; implements `Graphs`. Raises WeightsMismatch when it is made."""

    precisions: tuple[str, ...] = ("int8", "bf16", "fp32")

    def __init__(self, recipe: Recipe, weights: WeightsFile) -> None:
        tensors = load_weights(weights, shapes(recipe.layer))
        order = slice(None, None, -1) if recipe.channels == "bgr" else slice(None)
        self._mean = 255 * np.array(recipe.mean[order])
        self._deviation = 255 * np.array(recipe.std[order])
        self._convolutions = [
            Convolution(tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in convolution_names()
        ]
        self._fc1 = (tensors[f"{FC1}.weight"], tensors[f"{FC1}.bias"]) if recipe.layer == "fc1" else None
        self._weights = weights
        self.key = f"vgg16 {recipe.layer} {recipe.channels} {recipe.mean} {recipe.std} {weights.sha256}"
        self.border: Pixels | None = np.clip(self._mean.round(), 0, 255).astype(np.uint8)

    def graph(self, side: int, precision: str) -> openvino.Model:
        """Return the graph for one picture, uint8 (1, side + 2, side + 2, 3), with one output (1, dimension).

        The picture is surrounded by the colour `border`. In int8 it is the input of the first convolution as it is: the
        mean is in the layer's bias, and the border replaces its padding by zeros, which the mean would become. In fp32
        and bf16 the border is cut off, and the picture is normalised.
        """
        picture, maps = picture_input(side + 2)
        if precision == "int8":
            maps = self._int8(maps)
        else:
            maps = _pooled_blocks(self._normalised(maps), self._convolutions)[0]
        return openvino.Model([self._head(maps, side, precision)], [picture], "vgg16")

    def channel_maxima(self, pictures: Pixels) -> list[Vectors]:
        """Return the greatest number in each channel (channels,) after each ReLU, for pictures (n, side, side, 3)."""
        count, side, _, _ = pictures.shape
        picture, maps = picture_input(side + 2)
        activations = _pooled_blocks(self._normalised(maps), self._convolutions)[1]
        greatest = [ops.reduce_max(activation, np.array([0, 2, 3], np.int64)) for activation in activations]
        request = compiled(openvino.Model(greatest, [picture], "maxima"), "fp32").create_infer_request()
        surrounded = np.empty((count, side + 2, side + 2, 3), np.uint8)
        surrounded[:] = self.border
        surrounded[:, 1:-1, 1:-1] = pictures
        found = [[value.copy() for value in request.infer([image[None]]).values()] for image in surrounded]
        return [np.max(values, axis=0) for values in zip(*found, strict=True)]

    def _normalised(self, maps: Any) -> Any:
        """Return the input of the first layer, for a picture with its border, which is cut off."""
        inside = ops.slice(maps, [1, 1], [-1, -1], [1, 1], [2, 3])
        return normalised(inside, self._mean, self._deviation)

    def _int8(self, maps: Any) -> Any:
        """Return the maps after the last pooling, computed in int8 from pixels of 0…255 with their border."""
        maps, number = quantised(maps, 255.0), 0
        layers, greatest = self._rounded
        for layer in LAYERS:
            if layer == "M":
                maps = _pooled(maps)
                continue
            steps, scales, bias = layers[number]
            maps = _convolved(maps, quantised_weight(steps, scales), bias, padding=0 if number == 0 else 1)
            # The last maps are pooled to the vector, and stay as exact as they are.
            if number < len(layers) - 1:
                maps = quantised(maps, greatest[number])
            number += 1
        return maps

    @functools.cached_property
    def _rounded(self) -> tuple[list[tuple[np.ndarray, Vectors, Vectors]], list[float]]:
        """The convolutions in int8: steps, the size of a step for each channel, biases; and the greatest numbers."""
        with ThreadPoolExecutor(cpu_threads()) as pool:
            limit = pool.submit(weight_limit)
            convolutions, greatest = equalised(self._on_pixels(), self._maxima, map=pool.map)
            in_steps = pool.map(lambda one: rounded(one.weight, limit.result()), convolutions)
            layers = [(*found, one.bias) for found, one in zip(in_steps, convolutions, strict=True)]
        return layers, greatest

    def _on_pixels(self) -> list[Convolution]:
        """Return the convolutions, the first for pixels of 0…255 that are not normalised."""
        first, *others = self._convolutions
        weight = first.weight / self._deviation.reshape(1, 3, 1, 1)
        bias = first.bias - np.einsum("oihw,i->o", weight, self._mean)
        return [Convolution(weight.astype(np.float32), bias.astype(np.float32)), *others]

    def reference(self, side: int) -> Vectors | None:
        """Return the output in fp32 for `drawn_pictures(1, side)`: that of the shipped weights was computed before."""
        if self._weights.source != SHIPPED or self._fc1 is not None:
            return None
        return _shipped().get(f"output.{side}")

    @functools.cached_property
    def _maxima(self) -> list[Vectors]:
        if self._weights.source == SHIPPED:
            return [_shipped()[name] for name in convolution_names()]
        if self.key not in _MAXIMA:
            found = self.channel_maxima(sample_photographs(SAMPLE_SIDE))
            _MAXIMA[self.key] = [MARGIN * np.maximum(numbers, LEAST_SHARE * numbers.max()) for numbers in found]
        return _MAXIMA[self.key]

    def _head(self, maps: Any, side: int, precision: str) -> Any:
        """Return the vector (1, dimension) of the maps after the last pooling, (1, 512, side / 32, side / 32)."""
        if self._fc1 is None:
            least = ops.maximum(maps, np.float32(GEM_LEAST))
            mean = ops.reduce_mean(ops.power(least, np.float32(GEM_POWER)), np.array([2, 3], np.int64), False)
            return ops.power(mean, np.float32(1 / GEM_POWER))
        weight, bias = self._fc1
        if side != 32 * FC1_SIDE:
            maps = ops.adaptive_avg_pool(maps, ops.constant(np.array([FC1_SIDE, FC1_SIDE], np.int64)))
        row = ops.reshape(maps, ops.constant(np.array([1, -1], np.int64)), False)
        if precision == "int8":
            row = quantised(row, float(self._maxima[-1].max()))
            node = quantised_weight(*rounded(weight, weight_limit()))
        else:
            node = ops.constant(weight)
        return ops.add(ops.matmul(row, node, False, True), ops.constant(bias.reshape(1, -1)))


def sample_photographs(side: int) -> Pixels:
    """Return scikit-learn's two sample photographs and four quarters of each, scaled, uint8 (10, side, side, 3)."""
    from PIL import Image

    # By their paths: to import scikit-learn takes two seconds of processor time.
    found = importlib.util.find_spec("sklearn")
    assert found is not None
    assert found.origin is not None
    folder = os.path.join(os.path.dirname(found.origin), "datasets", "images")
    pictures = []
    for name in PHOTOGRAPHS:
        photograph = Image.open(os.path.join(folder, name)).convert("RGB")
        width, height = photograph.size
        for left, top, right, bottom in ((0, 0, 2, 2), (0, 0, 1, 1), (1, 0, 2, 1), (0, 1, 1, 2), (1, 1, 2, 2)):
            box = (left * width / 2, top * height / 2, right * width / 2, bottom * height / 2)
            pictures.append(np.asarray(photograph.resize((side, side), Image.Resampling.BILINEAR, box=box)))
    return np.stack(pictures)


@functools.cache
def _shipped() -> dict[str, Vectors]:
    """Return what docs/weights/ranges.py found for the shipped weights.

    The greatest number in each channel (channels,) after each ReLU, by the convolution's name, and the output (512,) in
    fp32 for `drawn_pictures(1, side)`, as `output.SIDE`.
    """
    with np.load(str(resources.files("imgindex.encoders") / "data" / RANGES)) as ranges:
        return {name: numbers.astype(np.float32) for name, numbers in ranges.items()}


def _pooled_blocks(maps: Any, convolutions: list[Convolution]) -> tuple[Any, list[Any]]:
    """Return the maps after the last pooling, and those after each ReLU."""
    activations: list[Any] = []
    for layer in LAYERS:
        if layer == "M":
            maps = _pooled(maps)
        else:
            convolution = convolutions[len(activations)]
            maps = _convolved(maps, ops.constant(convolution.weight), convolution.bias, padding=1)
            activations.append(maps)
    return maps, activations


def _convolved(maps: Any, weight: Any, bias: Vectors, *, padding: int) -> Any:
    edges = [padding, padding]
    sums = ops.convolution(maps, weight, [1, 1], edges, edges, [1, 1])
    return ops.relu(ops.add(sums, ops.constant(bias.reshape(1, -1, 1, 1))))


def _pooled(maps: Any) -> Any:
    return ops.max_pool(maps, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)
