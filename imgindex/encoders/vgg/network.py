"""VGG-16 in torch up to the layer whose output is the vector; only the layers that the recipe needs exist."""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn

from imgindex.encoders.vgg.layers import FC1_SIDE, GEM_LEAST, GEM_POWER, LAYERS, shapes

# How far the results of two forms of the network may differ, relative to the greatest value: a few times the rounding
# of the type.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.03, torch.float16: 0.005}
PROBE_SIDE = 64


class Network(Protocol):
    """VGG-16 up to the layer whose output is the vector, in two steps."""

    def maps(self, images: Tensor) -> Tensor:
        """Return the maps (n, 512, side/32, side/32) after the fifth pooling, of normalised images."""
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

    def __init__(self, layer: str) -> None:
        super().__init__()
        fc1 = shapes(layer).get("classifier.0.weight")
        with torch.device("meta"):
            self.features = _convolutions()
            self.classifier = nn.Sequential(nn.Linear(fc1[1], fc1[0])) if fc1 else None

    def forward(self, images: Tensor) -> Tensor:
        """Return one vector for each image, not normalised."""
        return self.head(self.maps(images))

    def maps(self, images: Tensor) -> Tensor:
        """Return the maps (n, 512, side/32, side/32) after the fifth pooling."""
        return cast(Tensor, self.features(images))

    def head(self, maps: Tensor) -> Tensor:
        """Return one vector, not normalised, for the maps of each image."""
        if self.classifier is None:
            return generalised_mean(maps)
        return cast(Tensor, self.classifier(flattened(maps)))


def generalised_mean(maps: Tensor) -> Tensor:
    """Pool (n, c, h, w) over space to (n, c) by the cubic mean, in float32; see `layers.GEM_POWER`."""
    return maps.float().clamp(min=GEM_LEAST).pow(GEM_POWER).mean(dim=(-2, -1)).pow(1 / GEM_POWER)


def flattened(maps: Tensor) -> Tensor:
    """Return the input of fc1 for maps (n, 512, h, w): (n, 25088) numbers, channel by channel, as in torchvision."""
    return nn.functional.adaptive_avg_pool2d(maps, (FC1_SIDE, FC1_SIDE)).flatten(1)


def gives_same_results(candidate: Network, network: VggNetwork) -> bool:
    """Return whether another form of the network computes the same maps and vector of a small image, up to rounding."""
    weight = next(network.features.parameters())
    probe = torch.linspace(-2, 2, 3 * PROBE_SIDE**2, device=weight.device).sin().view(1, 3, PROBE_SIDE, PROBE_SIDE)
    probe = probe.to(weight.dtype).contiguous(memory_format=torch.channels_last)
    maps = network.maps(probe)
    pairs = (candidate.maps(probe), maps), (candidate.head(maps), network.head(maps))
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
