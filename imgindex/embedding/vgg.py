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


class Extractor(Protocol):
    """VGG-16 up to the layer where the vector is taken, in two steps."""

    # As many pictures as go well through `maps` at once.
    together: int

    def maps(self, pictures: Tensor) -> Tensor:
        """Return the maps (n, 512, side/32, side/32) of normalised pictures (n, 3, side, side)."""
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

    together = sys.maxsize

    def forward(self, pictures: Tensor) -> Tensor:
        """Return one vector a picture, not normalised."""
        return self.head(self.maps(pictures))

    def maps(self, pictures: Tensor) -> Tensor:
        """Return the maps (n, 512, side/32, side/32) after the last pooling."""
        return cast(Tensor, self.features(pictures))

    def head(self, maps: Tensor) -> Tensor:
        """Return one vector for the maps of each picture, not normalised."""
        if self.classifier is None:
            return generalised_mean(maps)
        # On channels_last maps flatten() would still give torchvision's order, channel by channel.
        return cast(Tensor, self.classifier(nn.functional.adaptive_avg_pool2d(maps, (7, 7)).flatten(1)))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of every parameter, which is what a weights file must hold."""
        return {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}


def generalised_mean(maps: Tensor) -> Tensor:
    """Pool (n, c, h, w) over space to (n, c) by the cubic mean, in float32.

    GeM with p = 3: Radenović, Tolias & Chum, "Fine-tuning CNN image retrieval with no human annotation", 2018.
    """
    return maps.float().clamp(min=1e-6).pow(GEM_POWER).mean(dim=(-2, -1)).pow(1 / GEM_POWER)


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
