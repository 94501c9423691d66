"""What stands out among the images of an index, by what lies nearest to each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from imgindex.errors import UsageError
from imgindex.searching import open_search
from imgindex.storage.store import Store
from imgindex.types import Neighbours, Outlier

# Images that ask for their neighbours at once.
QUERIES = 1024

Ids = npt.NDArray[np.int64]


def outliers(store: Store, n: int) -> list[Outlier]:
    """Return the n images whose nearest other image is farthest away, the farthest first, ties by id.

    Raises UsageError for n below 1, IndexDamaged.
    """
    if n < 1:
        raise UsageError(f"-n {n}: at least one image must be asked for")
    with store.reading():
        parts = [(ids, near.ids[:, 0], near.distances[:, 0]) for ids, near in each_nearest(store, 1)]
        if not parts:
            return []
        ids, nearest, distances = (np.concatenate(column) for column in zip(*parts, strict=True))
        ids, nearest, distances = (column[nearest >= 0] for column in (ids, nearest, distances))
        order = np.lexsort((ids, -distances))[:n]
        apart = distances[distances > 0]
        middle = float(np.median(apart)) if len(apart) else 1.0
        paths = store.catalogue.image_paths({*ids[order].tolist(), *nearest[order].tolist()})
    return [
        Outlier(rank, paths[id], distance, distance / middle, paths[other], id)
        for rank, (id, distance, other) in enumerate(
            zip(ids[order].tolist(), distances[order].tolist(), nearest[order].tolist(), strict=True), 1
        )
    ]


def each_nearest(store: Store, n: int) -> Iterator[tuple[Ids, Neighbours]]:
    """Yield the ids of some images and the n others nearest to each, until all images had their turn.

    Where there are fewer others the id is -1. Never more than some thousand images are compared with all at once.
    """
    with store.reading():
        search = open_search(store)
        for block in store.blocks():
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
