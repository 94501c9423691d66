"""Scales pictures as Pillow does, or with weights of 16 bits. A processor multiplies many of these at once.

With both, a pixel is the mean of those that its triangle covers, by weights that fall towards its ends (bilinear,
antialiased). The rows are scaled first, then the columns, each rounded to 8 bits. Weights are whole numbers: they are
multiplied by the largest power of two that keeps all of them below 2^15, and rounded. Those of Pillow have 22 bits; up
to a hundredth of the pixels differ, by 1.

A recipe names one of them, because the pixels decide the vectors. The arithmetic of 16 bits has the same result on
every machine: by cykooz_resizer, which brings the SIMD code of fast_image_resize, and by numpy where that cannot be
imported. Linux on ARM lacks a wheel of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgindex.recipe import Scaling
from imgindex.types import Pixels

try:
    import cykooz_resizer as simd
except ImportError:
    simd = None

Size = tuple[int, int]
Box = tuple[float, float, float, float]
Span = tuple[float, float]

# Pillow keeps a pixel as four bytes, and so do the images here. The fourth byte has no meaning.
CHANNELS, LAYOUT = 4, "RGBX"
# Weights are below 2 to the power of this; weights of many pixels, which are small, have at most so many bits.
WEIGHT_BITS, MOST_BITS = 15, 21
# Pixels whose rows are scaled at once, so that a large picture needs no second copy of itself.
BAND_PIXELS = 1 << 20


def scale(picture: Image.Image, size: Size, scaling: Scaling, box: Box | None = None) -> Image.Image:
    """Return a picture of mode RGB scaled to size, (width, height) in pixels.

    box: left, top, right and bottom of the part that is scaled, between pixels too; None: all of it.

    >>> scale(Image.new("RGB", (500, 375), "red"), (320, 240), "16-bit").getpixel((0, 0))
    (255, 0, 0)
    """
    if scaling == "pillow":
        return picture.resize(size, Image.Resampling.BILINEAR, box)
    left, top, right, bottom = box or (0, 0, *picture.size)
    library = Numpy() if simd is None else Simd()
    bands = [
        library.scaled(library.image(band.tobytes("raw", LAYOUT), band.size), 0, (left, right), size[0])
        for band in _bands(picture)
    ]
    rows = bands[0]
    if len(bands) > 1:
        rows = library.image(b"".join(map(library.pixels, bands)), (size[0], picture.height))
    return Image.frombytes("RGB", size, library.pixels(library.scaled(rows, 1, (top, bottom), size[1])), "raw", LAYOUT)


def _bands(picture: Image.Image) -> Iterator[Image.Image]:
    """Yield the picture in parts of whole rows, from top to bottom, of BAND_PIXELS where it is larger."""
    width, height = picture.size
    if width * height <= BAND_PIXELS:
        yield picture
        return
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        yield picture.crop((0, top, width, min(top + rows, height)))


class Simd:
    """Scales by the SIMD code of cykooz_resizer, whose images are copies of the pixels."""

    def image(self, pixels: bytes, size: Size) -> Any:
        """Return an image of the library with these pixels."""
        return simd.ImageData(*size, simd.PixelType.U8x4, pixels)

    def scaled(self, image: Any, axis: int, span: Span, count: int) -> Any:
        """Return an image with the span of one axis scaled to `count` pixels; axis: 0 across, 1 down."""
        size = width, height = image.width, image.height
        if span == (0, size[axis]) and count == size[axis]:
            return image
        start, length = span[0], span[1] - span[0]
        box = simd.CropBox(start, 0, length, height) if axis == 0 else simd.CropBox(0, start, width, length)
        scaled = simd.ImageData(*((count, height) if axis == 0 else (width, count)), simd.PixelType.U8x4)
        bilinear = simd.ResizeAlg.convolution(simd.FilterType.bilinear)
        simd.Resizer().resize(image, scaled, simd.ResizeOptions(bilinear, use_alpha=False, crop_box=box))
        return scaled

    def pixels(self, image: Any) -> bytes:
        """Return the pixels of an image of the library."""
        pixels: bytes = image.get_buffer()
        return pixels


class Numpy:
    """Does what `Simd` does, to the same bits; its images are arrays (height, width, CHANNELS)."""

    def image(self, pixels: bytes, size: Size) -> Pixels:
        return np.frombuffer(pixels, np.uint8).reshape(size[1], size[0], CHANNELS)

    def scaled(self, image: Pixels, axis: int, span: Span, count: int) -> Pixels:
        lines = np.moveaxis(image, 1 - axis, 0)
        first, weights, bits = _weights(len(lines), span, count)
        sums = np.full((count, *lines.shape[1:]), 1 << (bits - 1), np.int32)
        for place, weight in enumerate(weights.T):
            sums += lines[np.minimum(first + place, len(lines) - 1)] * weight[:, None, None]
        return np.moveaxis((sums >> bits).clip(0, 255).astype(np.uint8), 0, 1 - axis)

    def pixels(self, image: Pixels) -> bytes:
        return image.tobytes()


def _weights(size: int, span: Span, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], int]:
    """Return for each of `count` pixels the first of `size` that it covers, the weights from there on, and their bits.

    The weights (count, most that one covers) of a pixel have a sum of about 2 to the power of their bits.
    """
    step = (span[1] - span[0]) / count
    reach = max(step, 1.0)
    centres = span[0] + (np.arange(count) + 0.5) * step
    first = np.floor(centres - reach).clip(min=0).astype(np.int64)
    end = np.ceil(centres + reach).clip(max=size).astype(np.int64)
    places = first[:, None] + np.arange((end - first).max())
    shares = (1 - np.abs(places + 0.5 - centres[:, None]) / reach).clip(min=0)
    shares[places >= end[:, None]] = 0
    # One after the other: the order of a sum decides its last bit.
    shares /= shares.cumsum(axis=1)[:, -1:]
    bits = 0
    while bits < MOST_BITS and round(shares.max() * 2 ** (bits + 1)) < 1 << WEIGHT_BITS:
        bits += 1
    return first, np.floor(shares * 2**bits + 0.5).astype(np.int32), bits
