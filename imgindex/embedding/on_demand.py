"""From the bytes of image files to vectors that nobody keeps: decoded in processes, embedded batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
Turn = Callable[[Pixels], Pixels]
AS_IT_IS: tuple[Turn, ...] = (lambda pixels: pixels,)


def embed_files(
    files: Iterator[tuple[Key, bytes]], *, decoders: Decoders, embedder: Embedder, workers: int | None = None
) -> Iterator[tuple[Key, Vectors | UnreadableImage]]:
    """Yield the vector (dimension,) of each file, under its key, or why there is none; in no certain order.

    workers: how many are decoded at once. Raises DecoderUnavailable.
    """
    for key, vectors in embed_turned(files, AS_IT_IS, decoders=decoders, embedder=embedder, workers=workers):
        yield key, vectors if isinstance(vectors, UnreadableImage) else vectors[0]


def embed_turned(
    files: Iterator[tuple[Key, bytes]],
    turns: Sequence[Turn],
    *,
    decoders: Decoders,
    embedder: Embedder,
    workers: int | None = None,
) -> Iterator[tuple[Key, Vectors | UnreadableImage]]:
    """Do the same with each picture turned in several ways: its vectors are (turns, dimension).

    A turn takes the square that the network sees, (side, side, 3), to another one.
    """
    failed: list[tuple[Key, UnreadableImage]] = []
    pictures = _decoded(files, decoders, failed, worker_count(workers))
    turned = ((key, turn(pixels)) for key, pixels in pictures for turn in turns)
    embedded = _embedded(turned, embedder)
    while of_one := list(islice(embedded, len(turns))):
        vectors = np.stack([vector for _, vector in of_one])
        yield of_one[0][0], vectors if np.isfinite(vectors).all() else UnreadableImage(NOT_FINITE, stage="embed")
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
