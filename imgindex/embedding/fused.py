"""VGG-16's convolutions on a processor, at its pace: fused operators, and activations that stay small.

What slows the layers of `vgg.FeatureExtractor` down on a processor is memory, not arithmetic: a ReLU that reads and
writes all again, a pooling that also computes where its maxima were, and activations of up to 100 MB that the C library
takes from the system and gives back layer by layer, a page fault every 4 KiB. Here oneDNN applies the ReLU while it
writes a convolution's output, pooling is two maxima, and the picture passes in strips whose activations are small
enough for the C library to keep.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imgindex.embedding.vgg import Extractor, FeatureExtractor

# Greatest activation: with twice as much, what a block needs is more than glibc keeps; with half as much, more rows are
# computed twice at the edges of strips.
ACTIVATION_BYTES = 3 << 20
# glibc keeps up to twice what was once freed at once, if that was less than 32 MiB, instead of giving it back.
GLIBC_KEEPS = 31 << 20
# How far the results of both ways may lie apart, in units of the greatest one: the rounding of the type, a few times.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.03, torch.float16: 0.005}
PROBE_SIDE = 64
INTEGERS = {2: torch.int16, 4: torch.int32}


def fuse(network: FeatureExtractor, side: int) -> FusedExtractor | None:
    """Return the network's fused twin; None where torch has no such operators here, or they do not agree with it.

    They are private ones, made for torch.compile, and may be missing or differ in another version or processor.
    """
    try:
        with torch.inference_mode():
            fused = FusedExtractor(network, side)
            return fused if agree(fused, network) else None
    except (AttributeError, RuntimeError):
        return None


def agree(twin: Extractor, network: FeatureExtractor) -> bool:
    """Whether a twin computes the network's maps of a small picture, up to rounding."""
    weight = next(network.features.parameters())
    probe = torch.linspace(-2, 2, 3 * PROBE_SIDE**2, device=weight.device).sin().view(1, 3, PROBE_SIDE, PROBE_SIDE)
    probe = probe.to(weight.dtype).contiguous(memory_format=torch.channels_last)
    expected = network.maps(probe)
    error = (twin.maps(probe) - expected).abs().max()
    return bool(error <= TOLERANCE[weight.dtype] * expected.abs().max())


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

    def __init__(self, network: FeatureExtractor, side: int) -> None:
        self._network = network
        self._blocks: list[list[Convolution]] = [[]]
        for layer in network.features:
            if isinstance(layer, nn.Conv2d):
                width = side >> (len(self._blocks) - 1)
                rows = _rows(width, width, layer.out_channels * layer.weight.element_size())
                self._blocks[-1].append(Convolution.of(layer, min(rows, width), width))
            elif isinstance(layer, nn.MaxPool2d):
                self._blocks.append([])
        self._blocks.pop()
        # As many pictures go through all blocks together as fit into one activation after the second pooling.
        third = self._blocks[2][-1]
        self.together = max(1, _rows(side // 4, side // 4, third.channels * third.bias.element_size()) // (side // 4))
        torch.empty(GLIBC_KEEPS, dtype=torch.uint8)

    def maps(self, pictures: Tensor) -> Tensor:
        """Return the maps (n, 512, side/32, side/32) of channels_last pictures with a side of 32 · n."""
        for block in self._blocks:
            pictures = _pass(pictures, block)
        return pictures

    def head(self, maps: Tensor) -> Tensor:
        """Return one vector for the maps of each picture, not normalised."""
        return self._network.head(maps)


def _pass(maps: Tensor, block: Sequence[Convolution]) -> Tensor:
    """Take maps through the convolutions of a block and its pooling, piece by piece."""
    n, _, height, width = maps.shape
    shape = (n, block[-1].channels, height // 2, width // 2)
    pooled = torch.empty(shape, dtype=maps.dtype, memory_format=torch.channels_last)
    rows = _rows(height, width, block[-1].channels * maps.element_size())
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
    rows = maps.permute(0, 2, 3, 1).view(integers).view(-1, 2, width * channels)
    pairs = torch.maximum(rows[:, 0], rows[:, 1]).view(-1, 2, channels)
    torch.maximum(pairs[:, 0], pairs[:, 1], out=pooled.permute(0, 2, 3, 1).view(integers).view(-1, channels))


def _rows(height: int, width: int, pixel: int) -> int:
    """How many rows one activation may have, `pixel` bytes each pixel: whole pictures, or equal strips of one.

    An even number, since two rows are pooled.
    """
    most = max(2, ACTIVATION_BYTES // (width * pixel))
    if most >= height:
        return most // height * height
    strips = max(1, round(height / most))
    return -(-height // (2 * strips)) * 2


def _pieces(length: int, most: int) -> Iterator[slice]:
    return (slice(start, min(start + most, length)) for start in range(0, length, most))
