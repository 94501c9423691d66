"""From images to small pictures of them, decoded in processes of their own, in the order that they were asked for."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image

from imgindex.embedding.pipeline import ahead, worker_count
from imgindex.embedding.prepare import without_border
from imgindex.embedding.recipe import Recipe
from imgindex.embedding.sandbox import Decoders
from imgindex.errors import UnreadableImage, UsageError
from imgindex.images.fingerprint import read_content
from imgindex.types import OnProgress, Pixels, Progress

STAGE = "draw"
SMALLEST, LARGEST = 16, 2048
FORMATS = {"webp": {"quality": 78, "method": 4}, "jpeg": {"quality": 82, "optimize": True}}

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small upright picture of an image, as a file of WebP or JPEG: `width` and `height` are its pixels.

    Where there is none, because the image is gone or cannot be read, `data` is empty and `reason` says why.
    """

    path: str
    data: bytes = b""
    width: int = 0
    height: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SmallPicture:
    """The same as pixels: uint8 (height, width, 3), or None with the reason."""

    path: str
    pixels: Pixels | None
    reason: str = ""


def thumbnails(
    paths: Iterable[str], *, side: int = 256, format: str = "webp", on_progress: OnProgress | None = None
) -> Iterator[Thumbnail]:
    """Yield a thumbnail of each image, in the order of paths; never an exception for what an image is.

    side: pixels of the longer side, to which small images are scaled up. format: webp or jpeg. Transparency lies on
    white. Memory does not grow with the number of images. Raises UsageError, DecoderUnavailable.
    """
    if format not in FORMATS:
        raise UsageError(f"there are no thumbnails in {format!r}", hint="choose webp or jpeg")

    def encode(picture: SmallPicture) -> Thumbnail:
        if picture.pixels is None:
            return Thumbnail(picture.path, reason=picture.reason)
        height, width, _ = picture.pixels.shape
        return Thumbnail(picture.path, encoded(picture.pixels, format), width, height)

    return _each(paths, side, encode, on_progress)


def small_pictures(
    paths: Iterable[str], *, side: int = 256, on_progress: OnProgress | None = None
) -> Iterator[SmallPicture]:
    """Yield the pixels of each image, scaled until its longer side is `side`, as `thumbnails` does."""
    return _each(paths, side, lambda picture: picture, on_progress)


def encoded(pixels: Pixels, format: str) -> bytes:
    """Return pixels (height, width, 3) as a file in one of the FORMATS."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **FORMATS[format])
    return file.getvalue()


def _each(
    paths: Iterable[str], side: int, make: Callable[[SmallPicture], Made], on_progress: OnProgress | None
) -> Iterator[Made]:
    if not SMALLEST <= side <= LARGEST:
        raise UsageError(f"thumbnails of {side} pixels cannot be made", hint=f"choose {SMALLEST} to {LARGEST}")
    return _drawn(list(paths), side, make, on_progress or (lambda progress: None))


def _drawn(
    paths: list[str], side: int, make: Callable[[SmallPicture], Made], on_progress: OnProgress
) -> Iterator[Made]:
    recipe = _as_recipe(side)
    decoders = Decoders(recipe)

    def draw(path: str) -> Made:
        try:
            # What a picture is made of is read here, and let go of before the next one.
            decoded = decoders.decode(read_content(os.path.abspath(path)).data)
        except UnreadableImage as error:
            return make(SmallPicture(path, None, error.reason))
        pixels = without_border(decoded.pixels, recipe, decoded.width, decoded.height)
        return make(SmallPicture(path, pixels))

    workers = worker_count(None)
    try:
        with ThreadPoolExecutor(workers, thread_name_prefix="imgindex-draw") as pool:
            for done, made in enumerate(ahead(pool, draw, paths, depth=4 * workers), 1):
                on_progress(Progress(STAGE, done, len(paths)))
                yield made
    finally:
        decoders.close()


def _as_recipe(side: int) -> Recipe:
    """The pixels of a thumbnail are those that a network would see, without the border that makes them a square."""
    return Recipe(name="thumbnail", cut="", weights="", weights_sha256="", side=side, dimension=0)
