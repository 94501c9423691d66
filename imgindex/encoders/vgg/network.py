"""VGG-16 up to the layer whose output is the vector; only the layers that the recipe needs exist."""

from __future__ import annotations

import sys
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from imgindex.errors import UsageError

# Configuration D of Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015:
# the channels of each 3 × 3 convolution, "M" for a 2 × 2 max-pooling.
LAYERS = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
GEM_POWER = 3.0
# Blocks of convolutions in `shallow`; the other two are in `deep`.
SHALLOW_BLOCKS = 3
WHOLE_BATCH = sys.maxsize
# How far the results of two forms of the network may differ, relative to the greatest value: a few times the rounding
# of the type.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.03, torch.float16: 0.005}
PROBE_SIDE = 64


class Network(Protocol):
    """VGG-16 up to the layer whose output is the vector, in three steps."""

    # How many images to pass through `shallow` and `deep` at once.
    shallow_batch: int
    deep_batch: int

    def shallow(self, images: Tensor) -> Tensor:
        """Return the maps (n, 256, side/8, side/8) after the third pooling of normalised images (n, 3, side, side)."""
        ...

    def deep(self, maps: Tensor) -> Tensor:
        """Return the maps (n, 512, side/32, side/32) after the fifth pooling, from the maps after the third."""
        ...

    def head(self, maps: Tensor) -> Tensor:
        """Return one vector, not normalised, for the maps of each image."""
        ...


class VggNetwork(nn.Module):
    """VGG-16 up to the first fully connected layer (fc1), or up to the last pooling (pool5).

    Takes float images (n, 3, side, side), already normalised. Returns (n, 4096) for fc1, before its ReLU, and (n, 512)
    for pool5, pooled over space. Parameters are named as in torchvision's `vgg16`. They have no storage until a state
    dict is loaded with `assign=True`. Raises UsageError for another layer.
    """

    shallow_batch = deep_batch = WHOLE_BATCH

    def __init__(self, layer: str) -> None:
        super().__init__()
        if layer not in ("fc1", "pool5"):
            raise UsageError(f"VGG-16 gives no vectors from the layer {layer!r}", hint="choose fc1 or pool5")
        with torch.device("meta"):
            self.features = _convolutions()
            self.classifier = nn.Sequential(nn.Linear(512 * 7 * 7, 4096)) if layer == "fc1" else None
        poolings = [number for number, module in enumerate(self.features) if isinstance(module, nn.MaxPool2d)]
        middle = poolings[SHALLOW_BLOCKS - 1] + 1
        # A tuple: torch would register two attributes as further modules, and their parameters would be named twice.
        self.parts = self.features[:middle], self.features[middle:]

    def forward(self, images: Tensor) -> Tensor:
        """Return one vector for each image, not normalised."""
        return self.head(self.deep(self.shallow(images)))

    def shallow(self, images: Tensor) -> Tensor:
        """Return the maps (n, 256, side/8, side/8) after the third pooling."""
        return cast(Tensor, self.parts[0](images))

    def deep(self, maps: Tensor) -> Tensor:
        """Return the maps (n, 512, side/32, side/32) after the fifth pooling, from the maps after the third."""
        return cast(Tensor, self.parts[1](maps))

    def head(self, maps: Tensor) -> Tensor:
        """Return one vector, not normalised, for the maps of each image."""
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
    """Return the input of fc1 for maps (n, 512, h, w): (n, 25088) numbers, channel by channel, as in torchvision."""
    return nn.functional.adaptive_avg_pool2d(maps, (7, 7)).flatten(1)


def gives_same_results(candidate: Network, network: VggNetwork) -> bool:
    """Return whether another form of the network computes the same maps and vector of a small image, up to rounding."""
    weight = next(network.features.parameters())
    probe = torch.linspace(-2, 2, 3 * PROBE_SIDE**2, device=weight.device).sin().view(1, 3, PROBE_SIDE, PROBE_SIDE)
    probe = probe.to(weight.dtype).contiguous(memory_format=torch.channels_last)
    maps = network.deep(network.shallow(probe))
    pairs = (candidate.deep(candidate.shallow(probe)), maps), (candidate.head(maps), network.head(maps))
    limit = TOLERANCE[weight.dtype]
    return all(bool((found - right).abs().max() <= limit * right.abs().max()) for found, right in pairs)


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
