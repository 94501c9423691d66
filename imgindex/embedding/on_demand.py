"""From the bytes of image files to vectors that nobody keeps: decoded in processes, embedded batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

import numpy as np

from imgindex.embedding.pipeline import ahead, in_lanes, worker_count
from imgindex.embedding.sandbox import Decoders
from imgindex.errors import UnreadableImage
from imgindex.types import Embedder, Pixels, Vectors

NOT_FINITE = "the network gave no finite vector"

Key = TypeVar("Key")


def embed_files(
    files: Iterator[tuple[Key, bytes]], *, decoders: Decoders, embedder: Embedder, workers: int | None = None
) -> Iterator[tuple[Key, Vectors | UnreadableImage]]:
    """Yield the vector (dimension,) of each file, under its key, or why there is none; in no certain order.

    workers: how many are decoded at once. Raises DecoderUnavailable.
    """
    failed: list[tuple[Key, UnreadableImage]] = []
    for key, vector in _embedded(_decoded(files, decoders, failed, worker_count(workers)), embedder):
        yield key, vector if np.isfinite(vector).all() else UnreadableImage(NOT_FINITE, stage="embed")
    yield from failed


def _decoded(
    files: Iterator[tuple[Key, bytes]], decoders: Decoders, failed: list[tuple[Key, UnreadableImage]], workers: int
) -> Iterator[tuple[Key, Pixels]]:
    """Yield the pixels of the files that can be decoded; the others have failed."""

    def decode(file: tuple[Key, bytes]) -> tuple[Key, Pixels | UnreadableImage]:
        try:
            return file[0], decoders.decode(file[1]).pixels
        except UnreadableImage as error:
            return file[0], error

    with ThreadPoolExecutor(workers, thread_name_prefix="imgindex") as pool:
        for key, pixels in ahead(pool, decode, files, depth=2 * workers, size=lambda file: len(file[1])):
            if isinstance(pixels, UnreadableImage):
                failed.append((key, pixels))
            else:
                yield key, pixels


def _embedded(pictures: Iterator[tuple[Key, Pixels]], embedder: Embedder) -> Iterator[tuple[Key, Vectors]]:
    """Yield the vectors of pictures, which go through the network batch by batch in all its lanes."""

    def embed(batch: list[tuple[Key, Pixels]]) -> list[tuple[Key, Vectors]]:
        vectors = embedder.embed(np.stack([pixels for _, pixels in batch]))
        return [(key, vector) for (key, _), vector in zip(batch, vectors, strict=True)]

    batches = iter(lambda: list(islice(pictures, embedder.batch_size)), [])
    yield from chain.from_iterable(in_lanes(embedder, embed, batches))
