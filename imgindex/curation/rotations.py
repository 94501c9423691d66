"""Embed images again, turned and mirrored: images of the index and files that are not in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np

from imgindex.decoding.pool import DecoderPool
from imgindex.encoders.encode_files import Transform, encode_transformed
from imgindex.errors import UnreadableImage
from imgindex.sources.content import read_content
from imgindex.storage.store import Store
from imgindex.types import Encoder, Failure, OnProgress, Vectors

CHANGED = "changed since it was added; `imgindex add` reads it again"

IDENTITY: dict[str, Transform] = {"": lambda pixels: pixels}
ROTATIONS: dict[str, Transform] = {
    "turned by 90°": lambda pixels: np.rot90(pixels, -1),
    "turned by 180°": lambda pixels: np.rot90(pixels, 2),
    "turned by 270°": lambda pixels: np.rot90(pixels, 1),
}
FLIPS: dict[str, Transform] = {
    "mirrored left to right": lambda pixels: pixels[:, ::-1],
    "mirrored top to bottom": lambda pixels: pixels[::-1],
}
# The symmetries of a square that only a rotation and a flip together make.
COMBINED: dict[str, Transform] = {
    "mirrored left to right, turned by 90°": lambda pixels: np.rot90(pixels[:, ::-1], -1),
    "mirrored left to right, turned by 270°": lambda pixels: np.rot90(pixels[:, ::-1], 1),
}


def transforms_of(*, rotations: bool, flips: bool) -> dict[str, Transform]:
    """Return the transforms of a square picture by name, clockwise, without the identity."""
    return (ROTATIONS if rotations else {}) | (FLIPS if flips else {}) | (COMBINED if rotations and flips else {})


@dataclass(frozen=True, slots=True)
class EmbeddingContext:
    """What it takes to embed further images: decoders, an encoder, and the callback for progress."""

    decoders: DecoderPool
    make_encoder: Callable[[], Encoder]
    on_progress: OnProgress

    def embed(
        self, files: Iterator[tuple[int, bytes]], transforms: Mapping[str, Transform]
    ) -> Iterator[tuple[int, Vectors | UnreadableImage]]:
        """Yield for each file its vectors (transforms, dimension), or the error; no encoder is made without files."""
        first = next(files, None)
        if first is None:
            return
        self.decoders.start()  # while torch is imported
        encoder = self.make_encoder()
        ways = list(transforms.values())
        yield from encode_transformed(chain([first], files), ways, decoders=self.decoders, encoder=encoder)


def embed_transformed(
    store: Store,
    ids: Iterable[int],
    transforms: Mapping[str, Transform],
    context: EmbeddingContext,
    failures: list[Failure],
) -> Iterator[tuple[int, Vectors]]:
    """Read images of the index again, and yield each id with its vectors (transforms, dimension).

    An image that cannot be read, or was changed, is appended to `failures` instead.
    """
    paths: dict[int, str] = {}
    files = _files(store, ids, paths, failures)
    for id, vectors in context.embed(files, transforms):
        path = paths.pop(id)
        if isinstance(vectors, UnreadableImage):
            failures.append(Failure(path, vectors.stage, vectors.reason))
        else:
            yield id, vectors


def _files(
    store: Store, ids: Iterable[int], paths: dict[int, str], failures: list[Failure]
) -> Iterator[tuple[int, bytes]]:
    for id in ids:
        (image,) = store.catalogue.records([id])
        try:
            content = read_content(image.path)
            if content.sha256.hex() != image.sha256:
                raise UnreadableImage(CHANGED, stage="read")
        except UnreadableImage as error:
            failures.append(Failure(image.path, error.stage, error.reason))
            continue
        paths[id] = image.path
        yield id, content.data
