"""What is unusual about an image of an index: its size, its shape, its format or its colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from imgindex.decoding.lookahead import map_ahead, worker_count
from imgindex.decoding.pool import DecoderPool
from imgindex.decoding.transforms import crop_border
from imgindex.errors import UnreadableImage
from imgindex.recipe import Recipe
from imgindex.sources.registry import read_content
from imgindex.types import Image, Pixels

# Pixels, as a share or a multiple of the median.
SMALL, LARGE = 1 / 16, 16
# An image is long when its longer side is LONG times the shorter one, and LONGER times what the median image has.
LONG, LONGER = 2.5, 1.5
# A format is rare when fewer than this many of 100 images have it.
RARE = 2
# Grey values 0…255: the standard deviation of nearly one colour, and the means of nearly black and nearly white.
FLAT, DARK, BRIGHT = 10.0, 25.0, 235.0


@dataclass(frozen=True, slots=True)
class TypicalImage:
    """What is typical: medians of pixels and of longer side / shorter side (`shape`), and the images of each format."""

    images: int
    pixels: float
    shape: float
    formats: Counter[str]

    @classmethod
    def of(cls, images: Iterable[Image]) -> TypicalImage:
        formats: Counter[str] = Counter()
        pixels, shapes = [], []
        for image in images:
            formats[image.format] += 1
            pixels.append(float(image.width) * image.height)
            shapes.append(_shape(image))
        return cls(len(pixels), float(np.median(pixels)), float(np.median(shapes)), formats)

    def each_reasons(self, images: Sequence[Image], recipe: Recipe, decoders: DecoderPool) -> Iterator[list[str]]:
        """Yield for each image what is unusual about it: an empty list where nothing is."""

        def colours(image: Image) -> list[str]:
            try:
                picture = decoders.decode(read_content(image.path).data)
            except UnreadableImage as error:
                return [f"cannot be read now: {error.reason}"]
            return _colours(crop_border(picture.pixels, recipe, picture.width, picture.height))

        workers = worker_count(None)
        with ThreadPoolExecutor(workers, thread_name_prefix="imgindex-decode") as pool:
            of_pixels = map_ahead(pool, colours, images, depth=2 * workers, size=lambda image: image.size)
            for image, of_colours in zip(images, of_pixels, strict=True):
                yield [*self._reasons_of_file(image), *of_colours]

    def _reasons_of_file(self, image: Image) -> Iterator[str]:
        pixels, shape = image.width * image.height, _shape(image)
        if pixels <= SMALL * self.pixels:
            yield f"only {image.width} × {image.height} pixels, {self.pixels / pixels:,.0f} times fewer than usual"
        if pixels >= LARGE * self.pixels:
            yield f"{image.width} × {image.height} pixels, {pixels / self.pixels:,.0f} times more than usual"
        if shape >= max(LONG, LONGER * self.shape):
            yield f"{shape:.1f} times as {'wide as high' if image.width > image.height else 'high as wide'}"
        same = self.formats[image.format]
        if 100 * same < RARE * self.images:
            yield f"the only {image.format}" if same == 1 else f"one of {same} {image.format}s"


def _colours(pixels: Pixels) -> list[str]:
    """Return what is unusual about the colours of a picture (height, width, 3): at most one reason."""
    values = pixels.astype(np.float32)
    deviation, mean = float(values.std(axis=(0, 1)).max()), float(values.mean())
    if deviation < FLAT:
        return ["nearly one colour"]
    if mean < DARK:
        return ["mostly black"]
    if mean > BRIGHT:
        return ["mostly white"]
    return []


def _shape(image: Image) -> float:
    return max(image.width, image.height) / max(1, min(image.width, image.height))
