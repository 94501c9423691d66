"""The layers of VGG-16 up to the one whose output is the vector, and the tensors that they need."""

from __future__ import annotations

from imgindex.errors import UsageError

# Configuration D of Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015:
# the channels of each 3 × 3 convolution, "M" for a 2 × 2 max-pooling.
LAYERS = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
# fc1 takes 512 maps of 7 × 7.
FC1_SIDE = 7
FC1 = "classifier.0"
# Generalised mean pooling (GeM): Radenović, Tolias & Chum, "Fine-tuning CNN image retrieval with no human annotation",
# 2018.
GEM_POWER = 3.0
GEM_LEAST = 1e-6


def convolution_names() -> list[str]:
    """Return torchvision's names of the convolutions in its `vgg16`, whose `features` counts ReLUs and poolings too."""
    names, number = [], 0
    for layer in LAYERS:
        if layer != "M":
            names.append(f"features.{number}")
        number += 1 if layer == "M" else 2
    return names


def shapes(layer: str) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor that the network needs up to the layer fc1 or pool5.

    Raises UsageError for another layer.
    """
    if layer not in ("fc1", "pool5"):
        raise UsageError(f"VGG-16 gives no vectors from the layer {layer!r}", hint="choose fc1 or pool5")
    found: dict[str, tuple[int, ...]] = {}
    channels = 3
    widths = [width for width in LAYERS if isinstance(width, int)]
    for name, width in zip(convolution_names(), widths, strict=True):
        found |= {f"{name}.weight": (width, channels, 3, 3), f"{name}.bias": (width,)}
        channels = width
    if layer == "fc1":
        found |= {f"{FC1}.weight": (4096, channels * FC1_SIDE**2), f"{FC1}.bias": (4096,)}
    return found
