"""The nearest images of each image, a block at a time; and which images have the same bytes or the same vector."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from imgindex.search.lifecycle import load_search
from imgindex.search.neighbours import without_themselves
from imgindex.storage.store import Store
from imgindex.types import Ids, Neighbours, OnProgress, Progress, VectorBlock, Vectors, counted

# Images that are searched for at once.
QUERIES = 1024


def each_nearest(
    store: Store,
    n: int,
    only: Ids | None = None,
    *,
    among: Ids | None = None,
    on_progress: OnProgress = lambda progress: None,
) -> Iterator[tuple[Ids, Neighbours]]:
    """Yield ids (q,) with the n other images nearest to each, block by block, for all images or those of `only`.

    among: the images that may be neighbours; None for those of `only`. The id is -1 where there are fewer than n. A
    block has at most 1,024 images, so that memory does not grow with the index. Raises IndexDamaged.
    """
    with store.reading():
        done, total = 0, len(store.location_table()) if only is None else len(only)
        on_progress(Progress("compare", done, total))
        search = load_search(store, only if among is None else among)
        for block in store.blocks(only):
            present = np.flatnonzero(block.ids >= 0)
            for start in range(0, len(present), QUERIES):
                rows = present[start : start + QUERIES]
                block.check(rows)
                near = search.search(np.asarray(block.vectors[rows], dtype=np.float32), n + 1)
                yield block.ids[rows], without_themselves(block.ids[rows], near)
                done += len(rows)
                on_progress(Progress("compare", done, total))


class StoredVectors:
    """The vectors of the present images of some blocks, by id; valid while the blocks are mapped."""

    def __init__(self, blocks: Sequence[VectorBlock]) -> None:
        self._blocks = blocks
        number = np.repeat(np.arange(len(blocks)), [len(block.ids) for block in blocks])
        row = np.concatenate([np.empty(0, np.int64), *(np.arange(len(block.ids)) for block in blocks)])
        ids = np.concatenate([np.empty(0, np.int64), *(block.ids for block in blocks)])
        order = np.argsort(ids, kind="stable")
        order = order[ids[order] >= 0]
        self.ids: Ids = ids[order]
        self._number, self._row = number[order], row[order]

    def take(self, ids: Ids) -> Vectors:
        """Return the vectors, float32 (n, dimension), of ids that are in these blocks. Raises IndexDamaged."""
        places = np.searchsorted(self.ids, ids)
        vectors = np.empty((len(ids), self._blocks[0].vectors.shape[1] if self._blocks else 0), dtype=np.float32)
        for number, block in enumerate(self._blocks):
            of_block = np.flatnonzero(self._number[places] == number)
            rows = self._row[places[of_block]]
            block.check(np.unique(rows))
            vectors[of_block] = block.vectors[rows]
        return vectors

    def distances(self, id: int, others: Ids) -> Vectors:
        """Return the Euclidean distances (n,) from an image to others. Raises IndexDamaged."""
        centre = self.take(np.array([id]))[0].astype(np.float64)
        found = np.empty(len(others), dtype=np.float32)
        for start in range(0, len(others), QUERIES):
            difference = self.take(others[start : start + QUERIES]) - centre
            found[start : start + QUERIES] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
        return found


def first_with_same_content(
    store: Store, only: Ids | None = None, *, on_progress: OnProgress = lambda progress: None
) -> tuple[Ids, Ids]:
    """Return the ids (n,) of the present images, ascending, and for each the lowest id with the same bytes.

    only: the ids to consider; None for all.
    """
    wanted = None if only is None else set(only.tolist())
    first: dict[str, int] = {}
    pairs = [
        (image.id, first.setdefault(image.sha256, image.id))
        for image in counted(store.catalogue.images(), store.catalogue.count()["images"], "read", on_progress)
        if wanted is None or image.id in wanted
    ]
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def first_with_same_vector(store: Store, rows: StoredVectors, ids: Ids) -> Ids:
    """Return for each of `ids`, ascending, the lowest of them with the same vector, which mostly is itself.

    Pictures of one colour have the same vector whatever their bytes. A thousand of them would fill each other's lists
    of neighbours, and no other image would be found.
    """
    table = store.location_table()
    crcs = table[np.isin(table[:, 0], ids), 3]
    _, inverse, count = np.unique(crcs, return_inverse=True, return_counts=True)
    # Equal vectors have equal CRC32s, but vectors with equal CRC32s may differ.
    doubtful = np.flatnonzero(count[inverse] > 1)
    same: Ids = ids.copy()
    first: dict[bytes, int] = {}
    for start in range(0, len(doubtful), QUERIES):
        places = doubtful[start : start + QUERIES]
        for place, vector in zip(places, rows.take(ids[places]), strict=True):
            same[place] = first.setdefault(hashlib.blake2b(vector.tobytes()).digest(), int(ids[place]))
    return same
