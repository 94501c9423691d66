"""Thumbnails and large pictures for the page: re-encoded from pixels, never a file's own bytes."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from imgindex.decoding.thumbnails import ThumbnailMaker, encode_pixels, scaled_down
from imgindex.errors import UnreadableImage
from imgindex.storage.thumbnails import SIDE, StoredThumbnail, ThumbnailStore

# Images that are decoded at once.
DECODED_AT_ONCE = 2
# The sides that large pictures are decoded for; they are scaled down from there.
LARGE_SIDES = (1024, 2048)
# A part of a pack: the place of the image among those that were asked for, what follows (a WebP, or the reason why
# there is none, in UTF-8), and its length in bytes.
PART = struct.Struct("<III")
PICTURE, REASON = 0, 1


@dataclass(frozen=True, slots=True)
class Shown:
    """An image to show: its path, and the SHA-256 that the index has of its file."""

    path: str
    sha256: bytes


class Pictures:
    """Makes the pictures of one index; they are decoded in processes, two at once."""

    def __init__(self, index: str) -> None:
        self._store = ThumbnailStore(index)
        self._small = ThumbnailMaker(SIDE, keep=True)
        self._large = [ThumbnailMaker(side) for side in LARGE_SIDES]
        self._threads = ThreadPoolExecutor(DECODED_AT_ONCE, thread_name_prefix="imgindex-pictures")
        self._lookup = ThreadPoolExecutor(1, thread_name_prefix="imgindex-thumbnails")
        self._is_looked_at = False

    async def pack(self, images: Sequence[Shown | None]) -> AsyncIterator[bytes]:
        """Yield the parts of a pack, those first that the index keeps, the others as soon as they are made.

        images: None for one that the index does not have.
        """
        loop = asyncio.get_running_loop()
        if not self._is_looked_at:
            # The page asks for a large picture soon after it has thumbnails, and a process takes 0.2 s to start.
            self._is_looked_at = True
            self._threads.submit(self._large[0].start)
        known = await loop.run_in_executor(self._lookup, self._known, images)
        kept = [_part(place, PICTURE, one.data) for place, one in enumerate(known) if one is not None]
        unknown = [(place, image) for place, image in enumerate(images) if known[place] is None]
        gone = [_part(place, REASON, b"the index does not have it any more") for place, one in unknown if one is None]
        yield b"".join(kept + gone)
        making = [
            loop.run_in_executor(self._threads, self._make, place, image)
            for place, image in unknown
            if image is not None
        ]
        new: list[StoredThumbnail] = []
        try:
            for made in asyncio.as_completed(making):
                part, thumbnail = await made
                new += [thumbnail] if thumbnail is not None else []
                yield part
        finally:
            # The client may have left.
            for one in making:
                one.cancel()
            if new:
                self._lookup.submit(self._store.put, new)

    async def picture(self, path: str, side: int) -> bytes:
        """Return a picture as WebP; no picture is larger than the image itself. Raises UnreadableImage."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._large_picture, path, side)

    def close(self) -> None:
        """End the decoder processes."""
        for maker in (self._small, *self._large):
            maker.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._lookup.shutdown(wait=False)
        self._store.close()

    def _known(self, images: Sequence[Shown | None]) -> list[StoredThumbnail | None]:
        return [None if image is None else self._store.get(image.sha256) for image in images]

    def _make(self, place: int, image: Shown) -> tuple[bytes, StoredThumbnail | None]:
        made = self._small.make(image.path)
        if made.made is None:
            return _part(place, REASON, made.reason.encode("utf-8", "backslashreplace")), None
        return _part(place, PICTURE, made.made.data), made.made

    def _large_picture(self, path: str, side: int) -> bytes:
        maker = next(maker for maker in self._large if maker.side >= side)
        made = maker.make(path)
        if made.pixels is None:
            raise UnreadableImage(made.reason)
        return encode_pixels(scaled_down(made.pixels, min(side, made.natural_side)), "webp")


def _part(place: int, kind: int, data: bytes) -> bytes:
    return PART.pack(place, kind, len(data)) + data
