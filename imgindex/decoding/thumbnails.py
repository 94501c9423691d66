"""Makes thumbnails of image files, as WebP or JPEG or as pixels, decoded in processes, in the order of the paths."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from PIL import Image

from imgindex.decoding.lookahead import map_ahead, worker_count
from imgindex.decoding.pool import DecoderPool
from imgindex.decoding.sizes import scaled_size
from imgindex.decoding.transforms import crop_border
from imgindex.errors import UnreadableImage, UsageError
from imgindex.recipe import Recipe
from imgindex.sources.registry import read_content
from imgindex.storage.paths import as_written
from imgindex.storage.thumbnails import SIDE, StoredThumbnail, ThumbnailStore
from imgindex.types import OnProgress, Pixels, Progress

STAGE = "draw"
MIN_SIDE, MAX_SIDE = 16, 2048
FORMATS = {"webp": {"quality": 78, "method": 4}, "jpeg": {"quality": 82, "optimize": True}}
# New thumbnails that are kept in the index at once.
KEPT_AT_ONCE = 64

Result = TypeVar("Result")
# Draws an image, from the thumbnail that is kept if there is one; and returns a new one to keep.
Draw = Callable[["ThumbnailMaker", str, "StoredThumbnail | None"], "tuple[Result, StoredThumbnail | None]"]


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
    """A thumbnail as pixels, uint8 (height, width, 3), or None with the reason.

    natural_side: the longer side of the upright picture in the file. made: the same picture to be kept in the index,
    where it was not kept yet.
    """

    path: str
    pixels: Pixels | None
    reason: str = ""
    natural_side: int = 0
    made: StoredThumbnail | None = None


@dataclass(frozen=True, slots=True)
class KeptThumbnails:
    """The thumbnails that an index keeps, and the SHA-256 of its images' files, by path."""

    store: ThumbnailStore
    hashes: Mapping[str, bytes]

    def get(self, path: str) -> StoredThumbnail | None:
        """Return the thumbnail of an image, if it is kept."""
        sha256 = self.hashes.get(path)
        return None if sha256 is None else self.store.get(sha256)


class ThumbnailMaker:
    """Makes thumbnails whose longer side has so many pixels, in decoder processes that `close` ends.

    keep: also make, of each file that is read, the thumbnail that an index keeps. Any thread may call `make`.
    """

    def __init__(self, side: int, *, keep: bool = False) -> None:
        if not MIN_SIDE <= side <= MAX_SIDE:
            hint = f"choose {MIN_SIDE} to {MAX_SIDE} pixels"
            raise UsageError(f"thumbnails of {side} pixels cannot be made", hint=hint)
        self.side = side
        # A smaller thumbnail is scaled down from the one that is kept.
        self.keeps = keep and side <= SIDE
        self._recipe = _thumbnail_recipe(SIDE if self.keeps else side)
        self._decoders = DecoderPool(self._recipe)

    def start(self) -> None:
        """Start a process, unless one is running, without waiting for it. Raises DecoderUnavailable."""
        self._decoders.start()

    def make(self, path: str, known: StoredThumbnail | None = None) -> ThumbnailPixels:
        """Return the thumbnail of an image; known: the one that is kept, from which it is made, without the file.

        An image that cannot be read raises nothing. Raises DecoderUnavailable.
        """
        if known is not None:
            # Otherwise what is kept is not a picture: an index may come from elsewhere.
            with contextlib.suppress(UnreadableImage):
                return self._of(path, known.data)
        try:
            # The file's bytes are released before the next image is read.
            content = read_content(as_written(path))
            return self._of(path, content.data, sha256=content.sha256)
        except UnreadableImage as error:
            return ThumbnailPixels(path, None, error.reason)

    def close(self) -> None:
        """End the processes."""
        self._decoders.close()

    def _of(self, path: str, data: bytes, *, sha256: bytes | None = None) -> ThumbnailPixels:
        decoded = self._decoders.decode(data)
        pixels = crop_border(decoded.pixels, self._recipe, decoded.width, decoded.height)
        made = None
        if self.keeps and sha256 is not None:
            height, width, _ = pixels.shape
            made = StoredThumbnail(sha256, encode_pixels(pixels, "webp"), width, height)
        pixels = scaled_down(pixels, self.side)
        return ThumbnailPixels(path, pixels, natural_side=max(decoded.width, decoded.height), made=made)


def thumbnails(
    paths: Iterable[str],
    *,
    side: int = 256,
    format: str = "webp",
    kept: KeptThumbnails | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[Thumbnail]:
    """Yield a thumbnail of each image, in the order of paths; an image that cannot be read raises nothing.

    side: pixels of the longer side, to which small images are scaled up. format: webp or jpeg. Transparency is composed
    on white, or on black where the drawing cannot be seen on white. Memory does not grow with the number of images.
    kept: the thumbnails that an index keeps, which are used, and added to, up to their side.
    Raises UsageError, DecoderUnavailable.
    """
    if format not in FORMATS:
        raise UsageError(f"thumbnails cannot be written as {format!r}", hint="choose webp or jpeg")

    def draw(
        maker: ThumbnailMaker, path: str, known: StoredThumbnail | None
    ) -> tuple[Thumbnail, StoredThumbnail | None]:
        is_as_kept = format == "webp" and side == SIDE
        if known is not None and is_as_kept:
            return Thumbnail(path, known.data, known.width, known.height), None
        picture = maker.make(path, known)
        if picture.pixels is None:
            return Thumbnail(path, reason=picture.reason), None
        height, width, _ = picture.pixels.shape
        made = picture.made
        data = made.data if made is not None and is_as_kept else encode_pixels(picture.pixels, format)
        return Thumbnail(path, data, width, height), made

    return _make(paths, side, draw, kept, on_progress)


def thumbnail_pixels(
    paths: Iterable[str],
    *,
    side: int = 256,
    kept: KeptThumbnails | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[ThumbnailPixels]:
    """Yield the pixels of each image's thumbnail, in the order of paths; otherwise as `thumbnails`."""

    def draw(
        maker: ThumbnailMaker, path: str, known: StoredThumbnail | None
    ) -> tuple[ThumbnailPixels, StoredThumbnail | None]:
        picture = maker.make(path, known)
        return picture, picture.made

    return _make(paths, side, draw, kept, on_progress)


def encode_pixels(pixels: Pixels, format: str) -> bytes:
    """Return pixels (height, width, 3) as the bytes of a file in one of the FORMATS."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **FORMATS[format])
    return file.getvalue()


def scaled_down(pixels: Pixels, side: int) -> Pixels:
    """Return pixels (height, width, 3) whose longer side is at most `side`."""
    height, width, _ = pixels.shape
    if max(height, width) <= side:
        return pixels
    small = Image.fromarray(pixels).resize(scaled_size((width, height), side), Image.Resampling.LANCZOS)
    return np.asarray(small)


def _make(
    paths: Iterable[str], side: int, draw: Draw[Result], kept: KeptThumbnails | None, on_progress: OnProgress | None
) -> Iterator[Result]:
    """Check `side` now, not at the first `next`, and return the iterator."""
    maker = ThumbnailMaker(side, keep=kept is not None)
    return _make_each(list(paths), maker, draw, kept, on_progress or (lambda progress: None))


def _make_each(
    paths: list[str], maker: ThumbnailMaker, draw: Draw[Result], kept: KeptThumbnails | None, on_progress: OnProgress
) -> Iterator[Result]:
    def make(path: str) -> tuple[Result, StoredThumbnail | None]:
        return draw(maker, path, kept.get(path) if kept is not None and maker.keeps else None)

    workers = worker_count(None)
    new: list[StoredThumbnail] = []
    try:
        with ThreadPoolExecutor(workers, thread_name_prefix="imgindex-draw") as pool:
            for done, (result, made) in enumerate(map_ahead(pool, make, paths, depth=4 * workers), 1):
                new += [made] if made is not None else []
                if kept is not None and len(new) >= KEPT_AT_ONCE:
                    kept.store.put(new)
                    new = []
                on_progress(Progress(STAGE, done, len(paths)))
                yield result
    finally:
        maker.close()
        if kept is not None:
            kept.store.put(new)


def _thumbnail_recipe(side: int) -> Recipe:
    """Return a recipe by which the decoder processes prepare thumbnails: a letterboxed square, without a network."""
    return replace(Recipe.without_network("thumbnail", side), alpha="visible", scaling="16-bit")
