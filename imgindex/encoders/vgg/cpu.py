"""VGG-16's convolutions on a CPU, at the speed of its arithmetic: fused operators and small activations.

On a CPU the layers of `VggNetwork` are slowed down by memory, not by arithmetic. A ReLU reads and writes a whole
activation again. A pooling also computes the positions of its maxima. Activations of up to 100 MB are allocated from
the system and returned to it layer by layer, with a page fault every 4 KiB.

Here oneDNN applies the ReLU while it writes the output of a convolution, pooling is two maxima, and the image passes in
strips whose activations are so small that the C library keeps their memory.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imgindex.encoders.vgg.network import SHALLOW_BLOCKS, VggNetwork, flattened, generalised_mean, gives_same_results

# Numbers in the largest activation: 3 MiB in half precision. With twice as many, a block needs more than glibc keeps
# (in fp32 that costs less, beside its slower arithmetic). With half as many, more rows are computed twice at the edges
# of strips.
ACTIVATION = 3 << 19
# After a block of less than 32 MiB was freed once, glibc keeps up to twice its size instead of returning it.
GLIBC_KEEPS = 31 << 20
INTEGERS = {2: torch.int16, 4: torch.int32}


def fused_network(network: VggNetwork, batch_size: int, side: int) -> FusedCpuNetwork | None:
    """Return the fused form of the network; None where torch lacks the operators, or the results differ.

    The operators are private, made for torch.compile. They may be missing or differ in another version of torch or on
    another processor.
    """
    try:
        with torch.inference_mode():
            fused = FusedCpuNetwork(network, batch_size, side)
            return fused if gives_same_results(fused, network) else None
    except (AttributeError, RuntimeError):
        return None


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """A fully connected layer with weights in the order in which oneDNN reads them for a number of rows."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def pack(cls, layer: nn.Linear, rows: int) -> PackedLinear:
        return cls(torch.ops.mkldnn._reorder_linear_weight(layer.weight, rows), layer.bias)

    def __call__(self, rows: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, "none", [], "")
        return out


@dataclass(frozen=True, slots=True)
class PackedConvolution:
    """A 3 × 3 convolution with its ReLU, with weights in the order in which oneDNN reads them for an input size."""

    weight: Tensor
    bias: Tensor
    channels: int

    @classmethod
    def pack(cls, layer: nn.Conv2d, height: int, width: int) -> PackedConvolution:
        shape = [1, layer.in_channels, height, width]
        weight = torch.ops.mkldnn._reorder_convolution_weight(layer.weight, [1, 1], [1, 1], [1, 1], 1, shape)
        assert layer.bias is not None
        return cls(weight, layer.bias, layer.out_channels)

    def __call__(self, maps: Tensor, padded_rows: int = 1) -> Tensor:
        """Convolve maps, padded by one column of zeros left and right, and by `padded_rows` above and below."""
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            maps, self.weight, self.bias, [padded_rows, 1], [1, 1], [1, 1], 1, "relu", [], ""
        )
        return out


class FusedCpuNetwork:
    """Computes the same as a `VggNetwork` on a CPU, up to rounding; see `fused_network`."""

    def __init__(self, network: VggNetwork, batch_size: int, side: int) -> None:
        self._classifier: Callable[[Tensor], Tensor] | None = network.classifier
        for layer in network.classifier or ():
            # In fp32 the packed copy takes 411 MB and saves less than a hundredth of the time.
            if isinstance(layer, nn.Linear) and layer.weight.dtype != torch.float32:
                self._classifier = PackedLinear.pack(layer, batch_size)
        self._blocks: list[list[PackedConvolution]] = [[]]
        for layer in network.features:
            if isinstance(layer, nn.Conv2d):
                width = side >> (len(self._blocks) - 1)
                rows = _rows(width, width, layer.out_channels)
                self._blocks[-1].append(PackedConvolution.pack(layer, min(rows, width), width))
            elif isinstance(layer, nn.MaxPool2d):
                self._blocks.append([])
        self._blocks.pop()
        # As many images as fit into one activation of the third block, and of the last. They share the reading of the
        # weights, which are 14 MB in the last block.
        self.shallow_batch, self.deep_batch = (
            self._images_per_activation(block, side) for block in (SHALLOW_BLOCKS - 1, -1)
        )
        torch.empty(GLIBC_KEEPS, dtype=torch.uint8)  # freed at once

    def shallow(self, images: Tensor) -> Tensor:
        """Return the maps (n, 256, side/8, side/8) of channels_last images whose side is a multiple of 32."""
        return functools.reduce(_run_block, self._blocks[:SHALLOW_BLOCKS], images)

    def deep(self, maps: Tensor) -> Tensor:
        """Return the maps (n, 512, side/32, side/32) after the fifth pooling, from the maps after the third."""
        return functools.reduce(_run_block, self._blocks[SHALLOW_BLOCKS:], maps)

    def head(self, maps: Tensor) -> Tensor:
        """Return one vector, not normalised, for the maps of each image."""
        return generalised_mean(maps) if self._classifier is None else self._classifier(flattened(maps))

    def _images_per_activation(self, block: int, side: int) -> int:
        last, side_in_block = self._blocks[block][-1], side >> (block % len(self._blocks))
        return max(1, ACTIVATION // (side_in_block**2 * last.channels))


def _run_block(maps: Tensor, block: Sequence[PackedConvolution]) -> Tensor:
    """Return the maps after the convolutions of a block and its pooling, computed piece by piece."""
    n, _, height, width = maps.shape
    shape = (n, block[-1].channels, height // 2, width // 2)
    pooled = torch.empty(shape, dtype=maps.dtype, memory_format=torch.channels_last)
    rows = _rows(height, width, block[-1].channels)
    if rows >= height:
        for images in _slices(n, rows // height):
            _pool(_convolve(maps[images], block, slice(0, height)), pooled[images])
    else:
        for image, strip in itertools.product(_slices(n, 1), _slices(height, rows)):
            _pool(_convolve(maps[image], block, strip), pooled[image, :, strip.start // 2 : strip.stop // 2])
    return pooled


def _convolve(maps: Tensor, block: Sequence[PackedConvolution], rows: slice) -> Tensor:
    """Return `rows` of the output of a block's convolutions, each of which needs one more row above and below."""
    height, margin = maps.shape[2], len(block)
    first, last = max(0, rows.start - margin), min(height, rows.stop + margin)
    maps = maps[:, :, first:last]
    for convolution in block:
        margin -= 1
        inside = first > 0 and last < height
        maps = convolution(maps, 0 if inside else 1)
        if inside:
            first, last = first + 1, last - 1
        # Zeros are right beyond an edge of the image. At the other end of the strip they replaced a row of the image,
        # so the row that was computed from them is cut off.
        top, bottom = max(0, rows.start - margin), min(height, rows.stop + margin)
        maps = maps[:, :, top - first : bottom - first]
        first, last = top, bottom
    return maps


def _pool(maps: Tensor, pooled: Tensor) -> None:
    """Write the maxima of 2 × 2 numbers to `pooled`; no number is negative, and both tensors hold whole rows of pixels.

    The numbers are compared as integers, which is faster: for floating-point numbers that are not negative, the bits
    have the same order.
    """
    _, channels, _, width = maps.shape
    integers = INTEGERS[maps.element_size()]
    pairs = maps.permute(0, 2, 3, 1).view(integers).view(-1, 2, channels)
    rows = torch.maximum(pairs[:, 0], pairs[:, 1]).view(-1, 2, width // 2 * channels)
    out = pooled.permute(0, 2, 3, 1).view(integers).view(-1, width // 2 * channels)
    torch.maximum(rows[:, 0], rows[:, 1], out=out)


def _rows(height: int, width: int, channels: int) -> int:
    """Return how many rows an activation may have: those of whole images, or those of equal strips of one image.

    The number is even for strips, because pooling takes two rows.
    """
    max_rows = max(2, ACTIVATION // (width * channels))
    if max_rows >= height:
        return max_rows // height * height
    strips = max(1, round(height / max_rows))
    return -(-height // (2 * strips)) * 2


def _slices(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
