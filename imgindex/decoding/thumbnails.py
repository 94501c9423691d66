"""Makes thumbnails of image files, as WebP or JPEG or as pixels, decoded in processes, in the order of the paths."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image

from imgindex.decoding.lookahead import map_ahead, worker_count
from imgindex.decoding.pool import DecoderPool
from imgindex.decoding.transforms import crop_border
from imgindex.errors import UnreadableImage, UsageError
from imgindex.recipe import Recipe
from imgindex.sources.registry import read_content
from imgindex.storage.paths import as_written
from imgindex.types import OnProgress, Pixels, Progress

STAGE = "draw"
MIN_SIDE, MAX_SIDE = 16, 2048
FORMATS = {"webp": {"quality": 78, "method": 4}, "jpeg": {"quality": 82, "optimize": True}}

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small upright picture of an image, as the bytes of a WebP or JPEG file; `width` and `height` in pixels.

    If the image is missing or cannot be read, `data` is empty and `reason` says why.
    """

    path: str
    data: bytes = b""
    width: int = 0
    height: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ThumbnailPixels:
    """A thumbnail as pixels, uint8 (height, width, 3), or None with the reason."""

    path: str
    pixels: Pixels | None
    reason: str = ""


def thumbnails(
    paths: Iterable[str], *, side: int = 256, format: str = "webp", on_progress: OnProgress | None = None
) -> Iterator[Thumbnail]:
    """Yield a thumbnail of each image, in the order of paths; an image that cannot be read raises nothing.

    side: pixels of the longer side, to which small images are scaled up. format: webp or jpeg. Transparency is composed
    on white, or on black where the drawing cannot be seen on white. Memory does not grow with the number of images.
    Raises UsageError, DecoderUnavailable.
    """
    if format not in FORMATS:
        raise UsageError(f"thumbnails cannot be written as {format!r}", hint="choose webp or jpeg")

    def encode(picture: ThumbnailPixels) -> Thumbnail:
        if picture.pixels is None:
            return Thumbnail(picture.path, reason=picture.reason)
        height, width, _ = picture.pixels.shape
        return Thumbnail(picture.path, encode_pixels(picture.pixels, format), width, height)

    return _make(paths, side, encode, on_progress)


def thumbnail_pixels(
    paths: Iterable[str], *, side: int = 256, on_progress: OnProgress | None = None
) -> Iterator[ThumbnailPixels]:
    """Yield the pixels of each image's thumbnail, in the order of paths; otherwise as `thumbnails`."""
    return _make(paths, side, lambda picture: picture, on_progress)


def encode_pixels(pixels: Pixels, format: str) -> bytes:
    """Return pixels (height, width, 3) as the bytes of a file in one of the FORMATS."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **FORMATS[format])
    return file.getvalue()


def _make(
    paths: Iterable[str], side: int, convert: Callable[[ThumbnailPixels], Result], on_progress: OnProgress | None
) -> Iterator[Result]:
    """Check `side` now, not at the first `next`, and return the iterator."""
    if not MIN_SIDE <= side <= MAX_SIDE:
        raise UsageError(f"thumbnails of {side} pixels cannot be made", hint=f"choose {MIN_SIDE} to {MAX_SIDE} pixels")
    return _decode_each(list(paths), side, convert, on_progress or (lambda progress: None))


def _decode_each(
    paths: list[str], side: int, convert: Callable[[ThumbnailPixels], Result], on_progress: OnProgress
) -> Iterator[Result]:
    recipe = _thumbnail_recipe(side)
    decoders = DecoderPool(recipe)

    def make(path: str) -> Result:
        try:
            # The file's bytes are released before the next image is read.
            decoded = decoders.decode(read_content(as_written(path)).data)
        except UnreadableImage as error:
            return convert(ThumbnailPixels(path, None, error.reason))
        pixels = crop_border(decoded.pixels, recipe, decoded.width, decoded.height)
        return convert(ThumbnailPixels(path, pixels))

    workers = worker_count(None)
    try:
        with ThreadPoolExecutor(workers, thread_name_prefix="imgindex-draw") as pool:
            for done, made in enumerate(map_ahead(pool, make, paths, depth=4 * workers), 1):
                on_progress(Progress(STAGE, done, len(paths)))
                yield made
    finally:
        decoders.close()


def _thumbnail_recipe(side: int) -> Recipe:
    """Return a recipe by which the decoder processes prepare thumbnails: a letterboxed square, without a network."""
    return Recipe(name="thumbnail", layer="", weights="", weights_sha256="", side=side, dimension=0, alpha="visible")
