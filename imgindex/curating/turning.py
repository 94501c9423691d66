"""New vectors for curating: pictures turned and mirrored, of files that an index holds or of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np

from imgindex.embedding.on_demand import Turn, embed_turned
from imgindex.embedding.sandbox import Decoders
from imgindex.errors import UnreadableImage
from imgindex.images.fingerprint import read_content
from imgindex.storage.store import Store
from imgindex.types import Embedder, Failure, OnProgress, Vectors

CHANGED = "changed since it was added; `imgindex add` takes it in"

AS_IT_IS: dict[str, Turn] = {"": lambda pixels: pixels}
ROTATIONS: dict[str, Turn] = {
    "turned by 90°": lambda pixels: np.rot90(pixels, -1),
    "turned by 180°": lambda pixels: np.rot90(pixels, 2),
    "turned by 270°": lambda pixels: np.rot90(pixels, 1),
}
FLIPS: dict[str, Turn] = {
    "mirrored left to right": lambda pixels: pixels[:, ::-1],
    "mirrored top to bottom": lambda pixels: pixels[::-1],
}
# What comes of doing both.
BOTH: dict[str, Turn] = {
    "mirrored left to right, turned by 90°": lambda pixels: np.rot90(pixels[:, ::-1], -1),
    "mirrored left to right, turned by 270°": lambda pixels: np.rot90(pixels[:, ::-1], 1),
}


def turns(*, rotations: bool, flips: bool) -> dict[str, Turn]:
    """Return the ways (clockwise) in which a square picture is turned, by name, the picture as it is left out."""
    return (ROTATIONS if rotations else {}) | (FLIPS if flips else {}) | (BOTH if rotations and flips else {})


@dataclass(frozen=True, slots=True)
class Means:
    """What new vectors are made with, and who is told how far that is."""

    decoders: Decoders
    make_embedder: Callable[[], Embedder]
    on_progress: OnProgress

    def embed(
        self, files: Iterator[tuple[int, bytes]], ways: Mapping[str, Turn]
    ) -> Iterator[tuple[int, Vectors | UnreadableImage]]:
        """Yield the vectors (ways, dimension) of files, or why there are none; without files no network is made."""
        first = next(files, None)
        if first is None:
            return
        self.decoders.start()  # while torch is imported
        embedder = self.make_embedder()
        yield from embed_turned(chain([first], files), list(ways.values()), decoders=self.decoders, embedder=embedder)


def turned_images(
    store: Store, ids: Iterable[int], ways: Mapping[str, Turn], means: Means, failures: list[Failure]
) -> Iterator[tuple[int, Vectors]]:
    """Yield ids and the vectors (ways, dimension) of images of the index, read again; some become failures."""
    paths: dict[int, str] = {}
    files = _files(store, ids, paths, failures)
    for id, vectors in means.embed(files, ways):
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
