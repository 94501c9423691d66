"""VGG-16 in torch, from pixels to the output that the vector is made of, on one device and in one precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from imgindex.encoders.convolution import convolution
from imgindex.encoders.vgg.layers import FC1, FC1_SIDE, GEM_LEAST, GEM_POWER, LAYERS, convolution_names
from imgindex.recipe import Recipe
from imgindex.types import Vectors

# All numbers inside the network are multiplied by this: pixels and biases are, and a network of ReLUs passes a factor
# on. Activations of Oxford's VGG-16 reach some 14,000; fp16 ends at 65,504. A power of two changes no bit of a result.
SCALE = 2.0**-4
# Tensor cores want channels in units of 16 bytes, so the three of a picture are padded to eight.
CHANNELS = 8


@dataclass(frozen=True, slots=True)
class _Layer:
    """A convolution, its bias (1, out, 1, 1) where one is to be added, and whether a 2 × 2 max-pooling follows."""

    weight: Tensor
    bias: Tensor | None
    is_pooled: bool


class VggNetwork:
    """VGG-16 up to the layer of a recipe: the first fully connected one (fc1), or the last pooling (pool5).

    weights: float arrays by torchvision's names, as `load_weights` returns them for `layers.shapes`.
    """

    def __init__(
        self, recipe: Recipe, weights: Mapping[str, Vectors], device: torch.device, dtype: torch.dtype
    ) -> None:
        self.device, self._dtype = device, dtype
        self._layers = list(self._prepared(weights))
        self._fc1: tuple[Tensor, Tensor] | None = None
        if recipe.layer == "fc1":
            fc1 = self._tensor(weights[f"{FC1}.weight"])
            self._fc1 = (
                self._filters(fc1.view(len(fc1), -1, FC1_SIDE, FC1_SIDE)),
                self._tensor(weights[f"{FC1}.bias"]).to(device),
            )
        order = slice(None, None, -1) if recipe.channels == "bgr" else slice(None)
        mean, std = torch.tensor(recipe.mean[order]), torch.tensor(recipe.std[order])
        self._factor, self._shift = (SCALE / (255 * std)).to(device), (-SCALE * mean / std).to(device)

    def new_input(self, count: int, side: int) -> Tensor:
        """Return memory (count, side, side, CHANNELS) for the normalised pixels of a batch; see `outputs`."""
        padded = torch.zeros((count, side, side, CHANNELS), dtype=self._dtype, device=self.device)
        # This channel has the value one, so that the first layer's bias is the middle of its kernel there.
        padded[..., 3] = SCALE
        return padded

    def outputs(self, pixels: Tensor, padded: Tensor) -> Tensor:
        """Return one output, float32 (n, dimension), for uint8 pixels (n, side, side, 3) in the images' channel order.

        padded: from `new_input`, for n pictures. Their pixels are normalised and written there in one step. The border
        that a convolution adds is 0 after the normalisation, so it is not part of this.
        """
        torch.addcmul(self._shift, pixels, self._factor, out=padded[..., :3])
        # Rows of pixels are the memory format channels_last: nothing is transposed.
        return self._head(self._maps(padded.permute(0, 3, 1, 2)))

    def _maps(self, maps: Tensor) -> Tensor:
        """Return the maps (n, 512, side/32, side/32) after the fifth pooling."""
        for layer in self._layers:
            maps = convolution(maps, layer.weight, padding=1)
            if layer.is_pooled:
                # Before bias and ReLU, which then have a quarter of the numbers to do, and give the same ones.
                maps = max_pooled(maps)
            if layer.bias is not None:
                maps.add_(layer.bias)
            maps.relu_()
        return maps

    def _head(self, maps: Tensor) -> Tensor:
        if self._fc1 is None:
            return generalised_mean(maps.float() / SCALE)
        weight, bias = self._fc1
        pooled = nn.functional.adaptive_avg_pool2d(maps, (FC1_SIDE, FC1_SIDE))
        return convolution(pooled, weight).flatten(1).float() / SCALE + bias

    def _prepared(self, weights: Mapping[str, Vectors]) -> list[_Layer]:
        pooled = [after == "M" for layer, after in zip(LAYERS, (*LAYERS[1:], ""), strict=True) if layer != "M"]
        layers = []
        for number, name in enumerate(convolution_names()):
            weight, bias = (self._tensor(weights[f"{name}.{part}"]) for part in ("weight", "bias"))
            if number == 0:
                wide = torch.zeros(len(weight), CHANNELS, 3, 3)
                wide[:, :3], wide[:, 3, 1, 1] = weight, bias
                layers.append(_Layer(self._filters(wide), None, pooled[number]))
            else:
                added = (bias * SCALE).to(self.device, self._dtype).view(1, -1, 1, 1)
                layers.append(_Layer(self._filters(weight), added, pooled[number]))
        return layers

    def _tensor(self, array: Vectors) -> Tensor:
        """Return float32 numbers, copied where they are mapped and cannot be written to: torch warns of those."""
        return torch.from_numpy(array if array.flags.writeable else np.array(array)).float()

    def _filters(self, weight: Tensor) -> Tensor:
        return weight.to(self.device, self._dtype).contiguous(memory_format=torch.channels_last)


def max_pooled(maps: Tensor) -> Tensor:
    """Return maps (n, c, h, w) of even sides after a 2 × 2 max-pooling.

    torch's own pooling on a GPU also writes where each maximum was, in eight bytes.
    """
    rows = torch.maximum(maps[:, :, ::2], maps[:, :, 1::2])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


def generalised_mean(maps: Tensor) -> Tensor:
    """Pool float32 maps (n, c, h, w) over space to (n, c) by the cubic mean; see `layers.GEM_POWER`."""
    return maps.clamp(min=GEM_LEAST).pow(GEM_POWER).mean(dim=(-2, -1)).pow(1 / GEM_POWER)
