"""VGG-16 cut where the vector is taken; only the layers that the recipe needs exist."""

from __future__ import annotations

import sys
from typing import Protocol, cast

import torch
from torch import Tensor, nn

# Configuration D of Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015:
# channels of each 3 × 3 convolution, "M" for a 2 × 2 max-pooling.
LAYERS = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
GEM_POWER = 3.0
SHALLOW_BLOCKS = 3
ALL = sys.maxsize


class Extractor(Protocol):
    """VGG-16 up to the layer where the vector is taken, in three steps."""

    # As many pictures as go well through `shallow` and `deep` at once.
    shallow_batch: int
    deep_batch: int

    def shallow(self, pictures: Tensor) -> Tensor:
        """Return the maps (n, 256, side/8, side/8) after the third pooling of normalised (n, 3, side, side)."""
        ...

    def deep(self, maps: Tensor) -> Tensor:
        """Return the maps (n, 512, side/32, side/32) after the fifth pooling of those after the third."""
        ...

    def head(self, maps: Tensor) -> Tensor:
        """Return one vector for the maps of each picture, not normalised."""
        ...


class FeatureExtractor(nn.Module):
    """VGG-16 up to the first fully connected layer (cut fc1), or up to the last pooling (cut pool5).

    Takes float pictures (n, 3, side, side), already normalised; returns (n, 4096) for fc1, before its ReLU, and
    (n, 512) for pool5, pooled over space. Parameters are named as in torchvision's `vgg16`; they have no storage
    until a state dict is loaded with `assign=True`.
    """

    def __init__(self, cut: str) -> None:
        super().__init__()
        with torch.device("meta"):
            self.features = _convolutions()
            self.classifier = nn.Sequential(nn.Linear(512 * 7 * 7, 4096)) if cut == "fc1" else None
        poolings = [number for number, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)]
        middle = poolings[SHALLOW_BLOCKS - 1] + 1
        self.layers = self.features[:middle], self.features[middle:]

    shallow_batch = deep_batch = ALL

    def forward(self, pictures: Tensor) -> Tensor:
        """Return one vector a picture, not normalised."""
        return self.head(self.deep(self.shallow(pictures)))

    def shallow(self, pictures: Tensor) -> Tensor:
        """Return the maps (n, 256, side/8, side/8) after the third pooling."""
        return cast(Tensor, self.layers[0](pictures))

    def deep(self, maps: Tensor) -> Tensor:
        """Return the maps (n, 512, side/32, side/32) after the fifth pooling of those after the third."""
        return cast(Tensor, self.layers[1](maps))

    def head(self, maps: Tensor) -> Tensor:
        """Return one vector for the maps of each picture, not normalised."""
        if self.classifier is None:
            return generalised_mean(maps)
        return cast(Tensor, self.classifier(flattened(maps)))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of every parameter, which is what a weights file must hold."""
        return {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}


def generalised_mean(maps: Tensor) -> Tensor:
    """Pool (n, c, h, w) over space to (n, c) by the cubic mean, in float32.

    GeM with p = 3: Radenović, Tolias & Chum, "Fine-tuning CNN image retrieval with no human annotation", 2018.
    """
    return maps.float().clamp(min=1e-6).pow(GEM_POWER).mean(dim=(-2, -1)).pow(1 / GEM_POWER)


def flattened(maps: Tensor) -> Tensor:
    """Return what fc1 takes of maps (n, 512, h, w): (n, 25088) numbers, channel by channel, as in torchvision."""
    return nn.functional.adaptive_avg_pool2d(maps, (7, 7)).flatten(1)


def _convolutions() -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for width in LAYERS:
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
    return nn.Sequential(*layers)
