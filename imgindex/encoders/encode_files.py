"""Encode image files whose vectors are not stored: decoded in processes, encoded batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

import numpy as np

from imgindex.decoding.lookahead import map_ahead, map_in_streams, worker_count
from imgindex.decoding.pool import DecoderPool
from imgindex.decoding.process import DecodedImage
from imgindex.errors import UnreadableImage
from imgindex.types import Encoder, Pixels, Vectors

NOT_FINITE = "the network gave no finite vector"

Key = TypeVar("Key")


def encode_files(
    files: Iterator[tuple[Key, bytes]],
    *,
    decoders: DecoderPool,
    encoder: Encoder,
    workers: int | None = None,
    on_decoded: Callable[[Key, DecodedImage], object] = lambda key, decoded: None,
) -> Iterator[tuple[Key, Vectors | UnreadableImage]]:
    """Yield the key of each file and its vector (dimension,), or the reason why there is none.

    The order is that of the files, except that those which cannot be decoded come last. workers: how many files are
    decoded at the same time. on_decoded: called with each picture before its vector is yielded. Raises
    DecoderUnavailable.
    """
    failed: list[tuple[Key, UnreadableImage]] = []
    images = _decoded(files, decoders, failed, worker_count(workers), on_decoded)
    for key, vector in _encoded(images, encoder):
        yield key, vector if np.isfinite(vector).all() else UnreadableImage(NOT_FINITE, stage="embed")
    yield from failed


def _decoded(
    files: Iterator[tuple[Key, bytes]],
    decoders: DecoderPool,
    failed: list[tuple[Key, UnreadableImage]],
    workers: int,
    on_decoded: Callable[[Key, DecodedImage], object],
) -> Iterator[tuple[Key, Pixels]]:
    """Yield the pixels of the files that can be decoded; append the others to `failed`."""

    def decode(file: tuple[Key, bytes]) -> tuple[Key, DecodedImage | UnreadableImage]:
        try:
            return file[0], decoders.decode(file[1])
        except UnreadableImage as error:
            return file[0], error

    with ThreadPoolExecutor(workers, thread_name_prefix="imgindex") as pool:
        for key, decoded in map_ahead(pool, decode, files, depth=2 * workers, size=lambda file: len(file[1])):
            if isinstance(decoded, UnreadableImage):
                failed.append((key, decoded))
            else:
                on_decoded(key, decoded)
                yield key, decoded.pixels


def _encoded(images: Iterator[tuple[Key, Pixels]], encoder: Encoder) -> Iterator[tuple[Key, Vectors]]:
    """Yield the vectors of images, encoded batch by batch in all streams of the encoder."""

    def encode(batch: list[tuple[Key, Pixels]]) -> list[tuple[Key, Vectors]]:
        vectors = encoder.encode(np.stack([pixels for _, pixels in batch]))
        return [(key, vector) for (key, _), vector in zip(batch, vectors, strict=True)]

    batches = iter(lambda: list(islice(images, encoder.batch_size)), [])
    yield from chain.from_iterable(map_in_streams(encoder, encode, batches))
