"""Encode image files whose vectors are not stored: decoded in processes, encoded batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

import numpy as np

from imgindex.decoding.lookahead import map_ahead, map_in_streams, worker_count
from imgindex.decoding.pool import DecoderPool
from imgindex.errors import UnreadableImage
from imgindex.types import Encoder, Pixels, Vectors

NOT_FINITE = "the network gave no finite vector"

Key = TypeVar("Key")
Transform = Callable[[Pixels], Pixels]
UNCHANGED: tuple[Transform, ...] = (lambda pixels: pixels,)


def encode_files(
    files: Iterator[tuple[Key, bytes]], *, decoders: DecoderPool, encoder: Encoder, workers: int | None = None
) -> Iterator[tuple[Key, Vectors | UnreadableImage]]:
    """Yield the key of each file and its vector (dimension,), or the reason why there is none.

    The order is that of the files, except that those which cannot be decoded come last. workers: how many files are
    decoded at the same time. Raises DecoderUnavailable.
    """
    for key, vectors in encode_transformed(files, UNCHANGED, decoders=decoders, encoder=encoder, workers=workers):
        yield key, vectors if isinstance(vectors, UnreadableImage) else vectors[0]


def encode_transformed(
    files: Iterator[tuple[Key, bytes]],
    transforms: Sequence[Transform],
    *,
    decoders: DecoderPool,
    encoder: Encoder,
    workers: int | None = None,
) -> Iterator[tuple[Key, Vectors | UnreadableImage]]:
    """Yield the key of each file and the vectors (transforms, dimension) of its image, once after each transform.

    A transform takes the pixels that the network sees, (side, side, 3), and returns others of that shape, for example
    rotated ones. The rest is as in `encode_files`.
    """
    failed: list[tuple[Key, UnreadableImage]] = []
    images = _decoded(files, decoders, failed, worker_count(workers))
    transformed = ((key, transform(pixels)) for key, pixels in images for transform in transforms)
    encoded = _encoded(transformed, encoder)
    while of_one_image := list(islice(encoded, len(transforms))):
        key, _ = of_one_image[0]
        vectors = np.stack([vector for _, vector in of_one_image])
        yield key, vectors if np.isfinite(vectors).all() else UnreadableImage(NOT_FINITE, stage="embed")
    yield from failed


def _decoded(
    files: Iterator[tuple[Key, bytes]], decoders: DecoderPool, failed: list[tuple[Key, UnreadableImage]], workers: int
) -> Iterator[tuple[Key, Pixels]]:
    """Yield the pixels of the files that can be decoded; append the others to `failed`."""

    def decode(file: tuple[Key, bytes]) -> tuple[Key, Pixels | UnreadableImage]:
        try:
            return file[0], decoders.decode(file[1]).pixels
        except UnreadableImage as error:
            return file[0], error

    with ThreadPoolExecutor(workers, thread_name_prefix="imgindex") as pool:
        for key, pixels in map_ahead(pool, decode, files, depth=2 * workers, size=lambda file: len(file[1])):
            if isinstance(pixels, UnreadableImage):
                failed.append((key, pixels))
            else:
                yield key, pixels


def _encoded(images: Iterator[tuple[Key, Pixels]], encoder: Encoder) -> Iterator[tuple[Key, Vectors]]:
    """Yield the vectors of images, encoded batch by batch in all streams of the encoder."""

    def encode(batch: list[tuple[Key, Pixels]]) -> list[tuple[Key, Vectors]]:
        vectors = encoder.encode(np.stack([pixels for _, pixels in batch]))
        return [(key, vector) for (key, _), vector in zip(batch, vectors, strict=True)]

    batches = iter(lambda: list(islice(images, encoder.batch_size)), [])
    yield from chain.from_iterable(map_in_streams(encoder, encode, batches))
