"""VGG-16's convolutions on a processor, at its pace: fused operators, and activations that stay small.

What slows the layers of `vgg.FeatureExtractor` down on a processor is memory, not arithmetic: a ReLU that reads and
writes all again, a pooling that also computes where its maxima were, and activations of up to 100 MB that the C library
takes from the system and gives back layer by layer, a page fault every 4 KiB. Here oneDNN applies the ReLU while it
writes a convolution's output, pooling is two maxima, and the picture passes in strips whose activations are small
enough for the C library to keep.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imgindex.embedding.vgg import SHALLOW_BLOCKS, Extractor, FeatureExtractor, flattened, generalised_mean

# Numbers in the greatest activation, 3 MiB in half precision: with twice as much, what a block needs is more than glibc
# keeps, which costs less beside the slower arithmetic of fp32; with half as much, more rows are computed twice at the
# edges of strips.
ACTIVATION = 3 << 19
# glibc keeps up to twice what was once freed at once, if that was less than 32 MiB, instead of giving it back.
GLIBC_KEEPS = 31 << 20
# How far the results of both ways may lie apart, in units of the greatest one: the rounding of the type, a few times.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.03, torch.float16: 0.005}
PROBE_SIDE = 64
INTEGERS = {2: torch.int16, 4: torch.int32}


def fuse(network: FeatureExtractor, batch_size: int, side: int) -> FusedExtractor | None:
    """Return the network's fused twin; None where torch has no such operators here, or they do not agree with it.

    They are private ones, made for torch.compile, and may be missing or differ in another version or processor.
    """
    try:
        with torch.inference_mode():
            fused = FusedExtractor(network, batch_size, side)
            return fused if agree(fused, network) else None
    except (AttributeError, RuntimeError):
        return None


def agree(twin: Extractor, network: FeatureExtractor) -> bool:
    """Whether a twin computes the network's maps of a small picture, and the vector, up to rounding."""
    weight = next(network.features.parameters())
    probe = torch.linspace(-2, 2, 3 * PROBE_SIDE**2, device=weight.device).sin().view(1, 3, PROBE_SIDE, PROBE_SIDE)
    probe = probe.to(weight.dtype).contiguous(memory_format=torch.channels_last)
    maps = network.deep(network.shallow(probe))
    pairs = (twin.deep(twin.shallow(probe)), maps), (twin.head(maps), network.head(maps))
    limit = TOLERANCE[weight.dtype]
    return all(bool((found - right).abs().max() <= limit * right.abs().max()) for found, right in pairs)


@dataclass(frozen=True, slots=True)
class Linear:
    """A fully connected layer, its weights in the order that oneDNN reads them in for some number of rows."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: nn.Linear, rows: int) -> Linear:
        return cls(torch.ops.mkldnn._reorder_linear_weight(layer.weight, rows), layer.bias)

    def __call__(self, rows: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, "none", [], "")
        return out


@dataclass(frozen=True, slots=True)
class Convolution:
    """A 3 × 3 convolution with its ReLU, its weights in the order that oneDNN reads them in for some size of input."""

    weight: Tensor
    bias: Tensor
    channels: int

    @classmethod
    def of(cls, layer: nn.Conv2d, height: int, width: int) -> Convolution:
        shape = [1, layer.in_channels, height, width]
        weight = torch.ops.mkldnn._reorder_convolution_weight(layer.weight, [1, 1], [1, 1], [1, 1], 1, shape)
        assert layer.bias is not None
        return cls(weight, layer.bias, layer.out_channels)

    def __call__(self, maps: Tensor, above: int = 1) -> Tensor:
        """Convolve maps with a column of zeros left and right, and `above` rows of them above and below."""
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            maps, self.weight, self.bias, [above, 1], [1, 1], [1, 1], 1, "relu", [], ""
        )
        return out


class FusedExtractor:
    """Computes what a FeatureExtractor on the processor does, up to rounding; see `fuse`."""

    def __init__(self, network: FeatureExtractor, batch_size: int, side: int) -> None:
        self._classifier: Callable[[Tensor], Tensor] | None = network.classifier
        for layer in network.classifier or ():
            # In fp32 it would be a copy of 411 MB for less than a hundredth of the time.
            if isinstance(layer, nn.Linear) and layer.weight.dtype != torch.float32:
                self._classifier = Linear.of(layer, batch_size)
        self._blocks: list[list[Convolution]] = [[]]
        for layer in network.features:
            if isinstance(layer, nn.Conv2d):
                width = side >> (len(self._blocks) - 1)
                rows = _rows(width, width, layer.out_channels)
                self._blocks[-1].append(Convolution.of(layer, min(rows, width), width))
            elif isinstance(layer, nn.MaxPool2d):
                self._blocks.append([])
        self._blocks.pop()
        # As many pictures go together as fit into one activation of the third block, and of the last: so many share
        # the reading of weights, 14 MB of them in the last.
        self.shallow_batch, self.deep_batch = (self._fitting(number, side) for number in (SHALLOW_BLOCKS - 1, -1))
        torch.empty(GLIBC_KEEPS, dtype=torch.uint8)

    def shallow(self, pictures: Tensor) -> Tensor:
        """Return the maps (n, 256, side/8, side/8) of channels_last pictures with a side of 32 · n."""
        return functools.reduce(_pass, self._blocks[:SHALLOW_BLOCKS], pictures)

    def deep(self, maps: Tensor) -> Tensor:
        """Return the maps (n, 512, side/32, side/32) after the fifth pooling of those after the third."""
        return functools.reduce(_pass, self._blocks[SHALLOW_BLOCKS:], maps)

    def head(self, maps: Tensor) -> Tensor:
        """Return one vector for the maps of each picture, not normalised."""
        return generalised_mean(maps) if self._classifier is None else self._classifier(flattened(maps))

    def _fitting(self, block: int, side: int) -> int:
        layer, side = self._blocks[block][-1], side >> (block % len(self._blocks))
        return max(1, ACTIVATION // (side**2 * layer.channels))


def _pass(maps: Tensor, block: Sequence[Convolution]) -> Tensor:
    """Take maps through the convolutions of a block and its pooling, piece by piece."""
    n, _, height, width = maps.shape
    shape = (n, block[-1].channels, height // 2, width // 2)
    pooled = torch.empty(shape, dtype=maps.dtype, memory_format=torch.channels_last)
    rows = _rows(height, width, block[-1].channels)
    if rows >= height:
        for some in _pieces(n, rows // height):
            _pool(_convolve(maps[some], block, slice(0, height)), pooled[some])
    else:
        for one, strip in itertools.product(_pieces(n, 1), _pieces(height, rows)):
            _pool(_convolve(maps[one], block, strip), pooled[one, :, strip.start // 2 : strip.stop // 2])
    return pooled


def _convolve(maps: Tensor, block: Sequence[Convolution], rows: slice) -> Tensor:
    """Return some rows of what the convolutions of a block make of maps; each needs one more row above and below."""
    height, spare = maps.shape[2], len(block)
    first, last = max(0, rows.start - spare), min(height, rows.stop + spare)
    maps = maps[:, :, first:last]
    for convolution in block:
        spare -= 1
        inside = first > 0 and last < height
        maps = convolution(maps, 0 if inside else 1)
        if inside:
            first, last = first + 1, last - 1
        # At an edge of the picture zeros lie beyond; at the other end of the strip they took the place of a row.
        top, bottom = max(0, rows.start - spare), min(height, rows.stop + spare)
        maps = maps[:, :, top - first : bottom - first]
        first, last = top, bottom
    return maps


def _pool(maps: Tensor, pooled: Tensor) -> None:
    """Write the maxima of 2 × 2 numbers, none negative, to `pooled`; what lies in memory must be whole rows of pixels.

    Floating-point numbers that are not negative have the order of their bits read as integers, which are compared
    faster.
    """
    _, channels, _, width = maps.shape
    integers = INTEGERS[maps.element_size()]
    pairs = maps.permute(0, 2, 3, 1).view(integers).view(-1, 2, channels)
    rows = torch.maximum(pairs[:, 0], pairs[:, 1]).view(-1, 2, width // 2 * channels)
    out = pooled.permute(0, 2, 3, 1).view(integers).view(-1, width // 2 * channels)
    torch.maximum(rows[:, 0], rows[:, 1], out=out)


def _rows(height: int, width: int, channels: int) -> int:
    """How many rows one activation may have: whole pictures, or equal strips of one.

    An even number, since two rows are pooled.
    """
    most = max(2, ACTIVATION // (width * channels))
    if most >= height:
        return most // height * height
    strips = max(1, round(height / most))
    return -(-height // (2 * strips)) * 2


def _pieces(length: int, most: int) -> Iterator[slice]:
    return (slice(start, min(start + most, length)) for start in range(0, length, most))
