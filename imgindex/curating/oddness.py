"""What is odd about an image among others, told from its size, its shape, its format and its colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from imgindex.embedding.pipeline import ahead, worker_count
from imgindex.embedding.prepare import without_border
from imgindex.embedding.recipe import Recipe
from imgindex.embedding.sandbox import Decoders
from imgindex.errors import UnreadableImage
from imgindex.images.fingerprint import read_content
from imgindex.types import Image, Pixels

# Pixels, as a share or a multiple of those of the image in the middle.
SMALL, LARGE = 1 / 16, 16
# How many times as long as the other one a side is, at least, and as is the shape in the middle.
LONG, LONGER = 2.5, 1.5
# A format that fewer of 100 images have.
RARE = 2
# Grey values of 0…255: deviation of nearly one colour, and the mean of what is nearly black or white.
FLAT, DARK, BRIGHT = 10.0, 25.0, 235.0


@dataclass(frozen=True, slots=True)
class Usual:
    """How images are: the median of their pixels and of their longer side against the shorter one, and formats."""

    images: int
    pixels: float
    shape: float
    formats: Counter[str]

    @classmethod
    def of(cls, images: Iterable[Image]) -> Usual:
        formats: Counter[str] = Counter()
        pixels, shapes = [], []
        for image in images:
            formats[image.format] += 1
            pixels.append(float(image.width) * image.height)
            shapes.append(_shape(image))
        return cls(len(pixels), float(np.median(pixels)), float(np.median(shapes)), formats)

    def look(self, images: Sequence[Image], recipe: Recipe, decoders: Decoders) -> Iterator[list[str]]:
        """Yield what is odd about each image, nothing where nothing is."""

        def colours(image: Image) -> list[str]:
            try:
                picture = decoders.decode(read_content(image.path).data)
            except UnreadableImage as error:
                return [f"cannot be read now: {error.reason}"]
            return _colours(without_border(picture.pixels, recipe, picture.width, picture.height))

        workers = worker_count(None)
        with ThreadPoolExecutor(workers, thread_name_prefix="imgindex-decode") as pool:
            seen = ahead(pool, colours, images, depth=2 * workers, size=lambda image: image.size)
            for image, of_colours in zip(images, seen, strict=True):
                yield [*self._form(image), *of_colours]

    def _form(self, image: Image) -> Iterator[str]:
        pixels, shape = image.width * image.height, _shape(image)
        if pixels <= SMALL * self.pixels:
            yield f"only {image.width} × {image.height} pixels, {self.pixels / pixels:,.0f} times fewer than usual"
        if pixels >= LARGE * self.pixels:
            yield f"{image.width} × {image.height} pixels, {pixels / self.pixels:,.0f} times more than usual"
        if shape >= max(LONG, LONGER * self.shape):
            yield f"{shape:.1f} times as {'wide as high' if image.width > image.height else 'high as wide'}"
        alike = self.formats[image.format]
        if 100 * alike < RARE * self.images:
            yield f"the only {image.format}" if alike == 1 else f"one of {alike} {image.format}s"


def _colours(pixels: Pixels) -> list[str]:
    """What is odd about a picture's colours, (height, width, 3): at most one of these."""
    numbers = pixels.astype(np.float32)
    spread, mean = float(numbers.std(axis=(0, 1)).max()), float(numbers.mean())
    if spread < FLAT:
        return ["nearly one colour"]
    if mean < DARK:
        return ["mostly black"]
    if mean > BRIGHT:
        return ["mostly white"]
    return []


def _shape(image: Image) -> float:
    return max(image.width, image.height) / max(1, min(image.width, image.height))
