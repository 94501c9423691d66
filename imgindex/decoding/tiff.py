"""Chooses the picture of a TIFF, and decodes the layouts of samples that Pillow refuses or gets wrong, by tifffile.

Which layouts Pillow gets right was found by comparing it with tifffile: see tests/campaigns/pixels.py.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from imgindex.decoding.values import Range, to_bytes
from imgindex.errors import UnreadableImage

MAX_PAGES = 256
# The samples of the largest picture that is allowed: three channels of 32 bits.
MAX_BYTES_A_PIXEL = 12

_HEADERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _SEPARATED, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_COLOUR_FILTER_ARRAY, _LINEAR_RAW = 32803, 34892
_GREYS = {_WHITE_IS_ZERO, _BLACK_IS_ZERO}
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED = 1, 2, 3, 4
_ASSOCIATED, _UNASSOCIATED = 1, 2
_MASK = 4
_DNG_VERSION, _GDAL_NODATA = 50706, 42113
_JPEGS = {6, 7}
_WEBP = 50001

_Page = Any  # tifffile.TiffPage


@dataclass(frozen=True, slots=True)
class Tiff:
    """The picture that a TIFF is: its largest page; the first of several.

    page: as tifffile describes it. number: its place among the pages, None if it lies below another page.
    same_size: the numbers of all pages of its size, in order.
    """

    page: _Page
    number: int | None
    same_size: tuple[int, ...]
    is_raw: bool


def inspect(data: bytes) -> Tiff | None:
    """Return the picture of a TIFF, without decoding it; None for other files and for damage."""
    if not data.startswith(_HEADERS):
        return None
    pages: list[tuple[int | None, _Page]] = []
    # Raised by tifffile on damaged files: what was found before counts.
    with contextlib.suppress(Exception):
        pages.extend(itertools.islice(_pages(data), MAX_PAGES))
    if not pages:
        return None
    is_raw = data[8:10] == b"CR" or any(_is_raw(page) for _, page in pages)
    pictures = [(number, page) for number, page in pages if not page.subfiletype & _MASK] or pages
    size = max(page.imagewidth * page.imagelength for _, page in pictures)
    largest = [(number, page) for number, page in pictures if page.imagewidth * page.imagelength == size]
    number, page = min(largest, key=lambda one: one[0] is None)
    return Tiff(page, number, tuple(number for number, _ in largest if number is not None), is_raw)


def _pages(data: bytes) -> Iterator[tuple[int | None, _Page]]:
    """Yield each page with its number, and behind it the pages below it, which Pillow cannot reach."""
    # Without a name: otherwise tifffile looks for files that belong to it.
    pages = tifffile.TiffFile(io.BytesIO(data)).pages
    for number in range(MAX_PAGES):
        try:
            page = pages[number]
        except IndexError:
            return
        yield number, page
        for below in itertools.islice(page.pages or (), MAX_PAGES) if page.subifds else ():
            yield None, below


def _is_raw(page: _Page) -> bool:
    return page.photometric in {_COLOUR_FILTER_ARRAY, _LINEAR_RAW} or _DNG_VERSION in page.tags


def is_right_in_pillow(page: _Page) -> bool:
    """Whether Pillow decodes this layout of samples to the right pixels, or refuses it for a good reason."""
    bits, format = page.bitspersample, page.sampleformat
    in_planes = page.planarconfig == 2 and page.samplesperpixel > 1
    little = page.parent.byteorder == "<"
    if page.compression == _WEBP:
        return False  # the libtiff in Pillow's wheels lacks WebP
    if not isinstance(bits, int):
        return True  # Pillow refuses samples of different sizes
    if format in {_UNSIGNED, _UNDEFINED} and bits <= 8:
        straight = _ASSOCIATED not in page.extrasamples
        return not in_planes or (page.photometric in {_RGB, _SEPARATED, _YCBCR} and straight)
    if in_planes:
        return False
    if format == _UNSIGNED and bits in {12, 16}:
        return True
    return format in {_SIGNED, _FLOAT} and bits in {16, 32} and little


def is_wide_colour(page: _Page) -> bool:
    """Whether Pillow keeps only the high bytes of this page's samples."""
    return bool(page.bitspersample == 16 and page.photometric == _RGB)


def orientation(page: _Page) -> int:
    """Return the orientation by the page's tag, 1 to 8."""
    value = page.tags.valueof("Orientation")
    return value if isinstance(value, int) else 1


def is_inverted(page: _Page) -> bool:
    """Whether 0 is white in this page, in a mode that Pillow does not invert."""
    return bool(page.photometric == _WHITE_IS_ZERO and page.bitspersample > 8)


def declared_range(page: _Page) -> Range | None:
    """Return the least and the greatest value by the page's tags, or by a number of bits that no type has."""
    low, high = (_numbers(page, name) for name in ("SMinSampleValue", "SMaxSampleValue"))
    if high and min(low or [0.0]) < max(high):
        return min(low or [0.0]), max(high)
    bits = page.bitspersample
    if page.sampleformat != _UNSIGNED or not isinstance(bits, int):
        return None
    # By the standard this tag is a statistic, but cameras write in it how many bits they measured.
    measured = max(_numbers(page, "MaxSampleValue") or [0.0])
    if 8 < (int(measured) + 1).bit_length() - 1 < bits and int(measured) & (int(measured) + 1) == 0:
        return 0.0, measured
    return (0.0, float((1 << bits) - 1)) if bits not in {16, 32, 64} else None


def _numbers(page: _Page, name: str) -> list[float]:
    value = page.tags.valueof(name)
    values = value if isinstance(value, tuple) else (value,)
    return [float(one) for one in values if isinstance(one, int | float) and math.isfinite(one)]


def nodata(page: _Page) -> float | None:
    """Return the value that stands for "nothing measured" by GDAL's tag."""
    try:
        return float(str(page.tags.valueof(_GDAL_NODATA)).strip("\0 "))
    except ValueError:
        return None


def layout(page: _Page) -> str:
    """Return the layout of a page's samples in words, for a reason."""
    kind = {_UNSIGNED: "unsigned", _SIGNED: "signed", _FLOAT: "float"}.get(page.sampleformat, "other")
    planes = " in planes" if page.planarconfig == 2 and page.samplesperpixel > 1 else ""
    samples = f"{page.samplesperpixel} × {page.bitspersample}-bit {kind}{planes}"
    photometric, compression = (getattr(value, "name", value) for value in (page.photometric, page.compression))
    return f"{samples}, {photometric}, compression {compression}"


def read(data: bytes, page: _Page, max_pixels: int) -> Image.Image:
    """Return a page in mode L, LA, RGB, RGBA, CMYK or LAB, not turned upright. Raises UnreadableImage.

    Of more than three channels of colour, or more than one of grey, the others are left out.
    """
    samples = _samples(data, page, max_pixels)
    colours = {_RGB: 3, _YCBCR: 3, _LAB: 3, _SEPARATED: 4}.get(page.photometric, 1)
    if samples.shape[2] < colours:
        raise UnreadableImage(f"TIFF of a kind that cannot be read ({layout(page)})")
    colour, extra = samples[..., :colours], samples[..., colours:]
    if page.photometric == _PALETTE:
        return Image.fromarray(_from_palette(colour[..., 0], page.colormap))
    if page.photometric == _LAB:
        if colour.dtype != np.uint8:
            raise UnreadableImage(f"TIFF of a kind that cannot be read ({layout(page)})")
        return Image.frombytes("LAB", (colour.shape[1], colour.shape[0]), np.ascontiguousarray(colour).tobytes())
    alpha = page.extrasamples[0] if page.extrasamples and extra.shape[2] and colours < 4 else 0
    if page.photometric == _SEPARATED:
        # Of inks that are signed or measured it is unknown what a full one is.
        if not (colour.dtype.kind == "u" or (colour.dtype.kind == "f" and _is_share(colour))):
            raise UnreadableImage(f"TIFF of a kind that cannot be read ({layout(page)})")
        scaled = _by_type(colour)
    else:
        scaled = to_bytes(colour, declared=declared_range(page), nodata=nodata(page))
    if page.photometric == _WHITE_IS_ZERO:
        scaled = 255 - scaled
    if alpha not in {_ASSOCIATED, _UNASSOCIATED}:
        return Image.fromarray(scaled[..., 0] if colours == 1 else scaled, {1: "L", 3: "RGB", 4: "CMYK"}[colours])
    opacity = _by_type(extra[..., 0])
    if alpha == _ASSOCIATED:
        share = np.maximum(opacity, 1)[..., None] / 255
        scaled = np.minimum(np.rint(scaled / share), 255).astype(np.uint8)
    return Image.fromarray(np.dstack([scaled, opacity]), "LA" if colours == 1 else "RGBA")


def _samples(data: bytes, page: _Page, max_pixels: int) -> npt.NDArray[Any]:
    """Return the samples of a page, (height, width, samples), whole and of a type with numbers."""
    known = {_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _SEPARATED, _LAB}
    subsampled = page.photometric == _YCBCR and page.compression in _JPEGS
    if page.dtype is None or page.dtype.kind not in "uif" or not (page.photometric in known or subsampled):
        raise UnreadableImage(f"TIFF of a kind that cannot be read ({layout(page)})")
    if page.nbytes > max_pixels * MAX_BYTES_A_PIXEL:
        raise UnreadableImage(f"TIFF of {page.nbytes:,} bytes of samples, more than the limit")
    ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or max(ends) > len(data) or min(page.databytecounts) <= 0:
        raise UnreadableImage("image file is truncated")
    try:
        samples: npt.NDArray[Any] = page.asarray()
    except Exception as error:
        if "imagecodecs" in str(error):
            raise UnreadableImage(
                f"TIFF ({layout(page)}) needs `pip install imagecodecs`", decoder="imagecodecs"
            ) from error
        raise
    if page.planarconfig == 2 and samples.ndim == 3 and page.samplesperpixel > 1:
        samples = np.moveaxis(samples, 0, -1)
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.ndim != 3 or samples.shape[:2] != (page.imagelength, page.imagewidth):
        raise UnreadableImage(f"TIFF of a kind that cannot be read ({layout(page)})")
    return samples


def _by_type(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return opacity or ink as 8 bits: all of it is the greatest value of the type, or 1 for floats."""
    if values.dtype.kind == "f":
        opaque: npt.NDArray[np.uint8] = np.rint(np.clip(np.nan_to_num(values.astype(np.float64)), 0, 1) * 255).astype(
            np.uint8
        )
        return opaque
    return (values >> (8 * values.dtype.itemsize - 8)).clip(0).astype(np.uint8)


def _is_share(values: npt.NDArray[Any]) -> bool:
    return bool(values.min() >= 0 and values.max() <= 1)


def _from_palette(indices: npt.NDArray[Any], colormap: npt.NDArray[np.uint16] | None) -> npt.NDArray[np.uint8]:
    if colormap is None or indices.max() >= colormap.shape[1]:
        raise UnreadableImage("TIFF with a palette of too few colours")
    return np.moveaxis((colormap >> 8).astype(np.uint8)[:, indices], 0, -1)
