"""What lies nearest to each image, a thousand at a time; and which images are one and the same to a search."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from imgindex.searching import open_search
from imgindex.storage.store import Store
from imgindex.types import Neighbours, Rows, Vectors

# Images that ask for their neighbours at once.
QUERIES = 1024

Ids = npt.NDArray[np.int64]


def each_nearest(
    store: Store, n: int, only: Ids | None = None, *, among: Ids | None = None
) -> Iterator[tuple[Ids, Neighbours]]:
    """Yield the ids of some images and the n others nearest to each, until all images, or those of `only`, had a turn.

    among: where the others are looked for, else in `only` too. Where there are fewer of them the id is -1. Never more
    than some thousand images are compared with all at once.
    """
    with store.reading():
        search = open_search(store, only if among is None else among)
        for block in store.blocks(only):
            shown = np.flatnonzero(block.ids >= 0)
            for start in range(0, len(shown), QUERIES):
                rows = shown[start : start + QUERIES]
                block.check(rows)
                near = search.search(np.asarray(block.vectors[rows], dtype=np.float32), n + 1)
                yield block.ids[rows], without_themselves(block.ids[rows], near)


def without_themselves(ids: Ids, near: Neighbours) -> Neighbours:
    """Leave each image out of its own neighbours (q, n + 1), or the last one where it is not among them."""
    place = (near.ids == ids[:, None]).argmax(axis=1)
    place[near.ids[np.arange(len(ids)), place] != ids] = near.ids.shape[1] - 1
    kept = np.arange(near.ids.shape[1]) != place[:, None]
    shape = (len(ids), near.ids.shape[1] - 1)
    return Neighbours(near.ids[kept].reshape(shape), near.distances[kept].reshape(shape))


class StoredRows:
    """The vectors of the images that blocks show, to be read by id while these are mapped."""

    def __init__(self, blocks: Sequence[Rows]) -> None:
        self._blocks = blocks
        number = np.repeat(np.arange(len(blocks)), [len(block.ids) for block in blocks])
        row = np.concatenate([np.empty(0, np.int64), *(np.arange(len(block.ids)) for block in blocks)])
        ids = np.concatenate([np.empty(0, np.int64), *(block.ids for block in blocks)])
        order = np.argsort(ids, kind="stable")
        order = order[ids[order] >= 0]
        self.ids: Ids = ids[order]
        self._number, self._row = number[order], row[order]

    def take(self, ids: Ids) -> Vectors:
        """Return the vectors (n, dimension) of ids that are there, as float32. Raises IndexDamaged."""
        places = np.searchsorted(self.ids, ids)
        vectors = np.empty((len(ids), self._blocks[0].vectors.shape[1] if self._blocks else 0), dtype=np.float32)
        for number, block in enumerate(self._blocks):
            of_block = np.flatnonzero(self._number[places] == number)
            rows = self._row[places[of_block]]
            block.check(np.unique(rows))
            vectors[of_block] = block.vectors[rows]
        return vectors

    def distances(self, id: int, others: Ids) -> Vectors:
        """Return the Euclidean distances (n,) of an image to others."""
        centre = self.take(np.array([id]))[0].astype(np.float64)
        found = np.empty(len(others), dtype=np.float32)
        for start in range(0, len(others), QUERIES):
            some = self.take(others[start : start + QUERIES]) - centre
            found[start : start + QUERIES] = np.sqrt(np.einsum("ij,ij->i", some, some))
        return found


def by_content(store: Store, only: Ids | None = None) -> tuple[Ids, Ids]:
    """Return the ids (n,) of the images that are shown, rising, and for each the least id with the same bytes."""
    wanted = None if only is None else set(only.tolist())
    first: dict[str, int] = {}
    pairs = [
        (image.id, first.setdefault(image.sha256, image.id))
        for image in store.catalogue.images()
        if wanted is None or image.id in wanted
    ]
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def by_vector(store: Store, rows: StoredRows, ids: Ids) -> Ids:
    """Return for each of some ids, rising, the least one with the same vector: itself, mostly.

    Pictures of one colour have one vector whatever their bytes; a thousand of them would be each other's neighbours,
    and nobody else's.
    """
    table = store.catalogue.places()
    crcs = table[np.isin(table[:, 0], ids), 3]
    _, kind, count = np.unique(crcs, return_inverse=True, return_counts=True)
    # Vectors with one CRC32 may differ, not the other way round.
    doubtful = np.flatnonzero(count[kind] > 1)
    same: Ids = ids.copy()
    first: dict[bytes, int] = {}
    for start in range(0, len(doubtful), QUERIES):
        places = doubtful[start : start + QUERIES]
        for place, vector in zip(places, rows.take(ids[places]), strict=True):
            same[place] = first.setdefault(hashlib.blake2b(vector.tobytes()).digest(), int(ids[place]))
    return same
