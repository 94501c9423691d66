"""Keeps the averaged vectors of an index in a derived file, and makes them again when they are wrong or stale.

The file holds, in the order of ids and one after the other: the ids, CRC32s, neighbours and distances of
`Neighbourhoods`, and the averaged vectors in the dtype of the segments. Nothing is read from it before its SHA-256 was
compared, except to tell how many images are newer.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, BinaryIO
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from imgindex.recipe import Recipe
from imgindex.search.lifecycle import EXACT, load_search, search_name
from imgindex.search.smoothing import (
    NEIGHBOURS,
    Neighbourhoods,
    SmoothedRows,
    average,
    each_average,
    find_neighbours,
)
from imgindex.storage import derived
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.store import Store
from imgindex.storage.writer import Writer
from imgindex.types import Ids, OnProgress, Vectors, VectorSearch
from imgindex.vectors.rows import VectorRows

# A new file is written beside the old one, which is read until the new one is committed.
NAMES = ("smoothed.rows", "smoothed-2.rows")
# Another number wherever other averages are made of the same vectors: older files are then made again.
METHOD = 1

# What each open store used last, so that its next query neither reads nor makes it again.
_used: WeakKeyDictionary[Store, SmoothedRows] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class SmoothedMetadata:
    """How the averaged vectors of a file were made.

    search: what found the neighbours, see `lifecycle.search_name`. seconds: how long the file took, or its last change.
    """

    method: int
    rows: int
    dimension: int
    dtype: str
    neighbours: int
    search: str
    seconds: float

    @classmethod
    def from_json(cls, text: str) -> SmoothedMetadata:
        """Return the metadata of a file. Raises ValueError for other text, and for files made in another way."""
        found = derived.read_metadata(cls, text, "averaged vectors")
        if (found.method, found.neighbours) != (METHOD, NEIGHBOURS) or found.rows < 1:
            raise ValueError(f"averaged vectors that were made in another way: {text[:200]}")
        return found

    def columns(self) -> list[tuple[np.dtype[Any], tuple[int, ...]]]:
        """Return the dtype and shape of each array of the file."""
        n, integers, floats = self.rows, np.dtype("<i8"), np.dtype("<f4")
        head = [(integers, (n,)), (integers, (n,)), (integers, (n, NEIGHBOURS)), (floats, (n, NEIGHBOURS))]
        return [*head, (np.dtype(self.dtype).newbyteorder("<"), (n, self.dimension))]

    def size(self) -> int:
        """Return the bytes of the file."""
        return sum(dtype.itemsize * math.prod(shape) for dtype, shape in self.columns())


def vector_rows(store: Store, only: Ids | None = None, *, smooth: bool) -> VectorRows:
    """Return the vectors of the present images, or of those of `only`, in the order of ids; averaged with `smooth`.

    The caller reads one state of the index, and called `prepare_smoothing` before. Raises IndexDamaged.
    """
    blocks = [smoothed_rows(store).block(only)] if smooth else store.blocks(only)
    return VectorRows.stored(blocks, store.segments.dimension)


def are_current(store: Store) -> bool:
    """Return whether averaged vectors of the present images are at hand; those of no image always are."""
    with store.reading():
        return not store.catalogue.count()["images"] or _current(store, *_table(store)) is not None


def smoothed_rows(store: Store, on_progress: OnProgress = lambda progress: None) -> SmoothedRows:
    """Return the averaged vectors of the present images: those of the file, or made in memory where it is not current.

    Raises IndexDamaged where a vector is damaged.
    """
    return store.once(lambda store: _smoothed_rows(store, on_progress), key=smoothed_rows)


def _smoothed_rows(store: Store, on_progress: OnProgress) -> SmoothedRows:
    ids, crcs = _table(store)
    found = _current(store, ids, crcs)
    if found is None:
        made = _Averages.of(store, load_search(store), _used.get(store) or _load(store), ids, crcs, on_progress)
        vectors = np.empty((len(ids), store.segments.dimension), store.segments.dtype)
        for places, rows in made.each():
            vectors[places] = rows
        found = _used[store] = SmoothedRows(made.known, vectors, made.search)
    return found


class QueryAverages:
    """Averages queries with the images nearest to them, within one `store.reading()`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows = smoothed_rows(store)

    @cached_property
    def _stored(self) -> tuple[VectorSearch, VectorRows]:
        """The search among the vectors themselves, and these: needed for queries that are not in the index."""
        return load_search(self._store), vector_rows(self._store, smooth=False)

    def of(self, vectors: Vectors, own: Ids) -> Vectors:
        """Return the averages (q, dimension) of queries.

        own: for each the id of the present image whose vector it is, −1 for none. Such an image has the average that is
        kept; another query is averaged with its 8 nearest images. Raises IndexDamaged.
        """
        ids, in_index = self._rows.known.ids, own >= 0
        found = np.empty(vectors.shape, np.float32)
        found[in_index] = self._rows.vectors[np.searchsorted(ids, own[in_index])]
        if not in_index.all():
            search, points = self._stored
            others = vectors[~in_index]
            near = search.search(others, NEIGHBOURS).ids
            found[~in_index] = average(others, near, ids, points, unit=_is_unit(self._store))
        return found


def update_smoothed_rows(store: Store, writer: Writer, *, wanted: bool, on_progress: OnProgress) -> None:
    """Make the file of averaged vectors again if it is missing, damaged or stale; wanted: also if there was none."""
    old = _recorded(writer.catalogue)
    if not writer.catalogue.count()["images"]:
        derived.forget(writer.catalogue, NAMES)
        return
    if old is None and not wanted:
        return
    started = time.perf_counter()
    with store.reading() as view:
        ids, crcs = _table(store)
        search = load_search(store)
        before = _load(store)
        if before is not None and before.known.are_those_of(ids, crcs) and before.search == search_name(store, search):
            return
        made = _Averages.of(store, search, before, ids, crcs, on_progress)
        covered = {number: len(stored) for number, stored in view.items()}
        name = next(name for name in NAMES if old is None or name != old.name)
        sha256, size = derived.write(os.path.join(store.path, derived.FOLDER, name), made.write)
    seconds = round(time.perf_counter() - started, 3)
    metadata = SmoothedMetadata(
        METHOD, len(ids), store.segments.dimension, store.segments.dtype.name, NEIGHBOURS, made.search, seconds
    )
    new = derived.DerivedFile(name, size, sha256, covered, json.dumps(asdict(metadata)))
    derived.record(writer.catalogue, new, instead=NAMES)


def smoothing_status(store: Store) -> dict[str, Any] | None:
    """Return how averaged vectors were made, and how many images are newer or gone; None where there are none."""
    file = _recorded(store.catalogue)
    metadata = None if file is None else _metadata(store, file)
    if file is None or metadata is None:
        return None
    ids, crcs = _table(store)
    known = _unchecked_known(store, file, metadata)
    same = int(known.has(ids, crcs).sum())
    return {"bytes": file.size, **asdict(metadata), "newer": len(ids) - same, "gone": len(known.ids) - same}


@dataclass(frozen=True, slots=True)
class _Averages:
    """Averaged vectors in the making: the neighbours are known, and the averages are made a block at a time."""

    store: Store
    points: VectorRows
    known: Neighbourhoods
    search: str

    @classmethod
    def of(
        cls,
        store: Store,
        search: VectorSearch,
        before: SmoothedRows | None,
        ids: Ids,
        crcs: Ids,
        on_progress: OnProgress,
    ) -> _Averages:
        """Find the neighbours of the present images; those found before are used where that gives the same."""
        # Imported late: where both are loaded, torch must come before FAISS.
        from imgindex.search.exact import ExactSearch

        name, known = search_name(store, search), Neighbourhoods.none()
        if before is not None and before.search == name:
            all_there = int(before.known.has(ids, crcs).sum()) == len(before.known.ids)
            # Without an image FAISS may find other neighbours for any other image, not only for its neighbours.
            if name == EXACT or all_there:
                known = before.known
        points = VectorRows.stored(store.blocks(), store.segments.dimension)
        found = find_neighbours(
            points, ids, crcs, search, lambda some: ExactSearch(store.blocks(some)), known, on_progress
        )
        return cls(store, points, found, name)

    def each(self) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        """Yield the averaged vectors in the dtype of the segments, a block at a time, with their places."""
        for places, rows in each_average(self.points, self.known, unit=_is_unit(self.store)):
            yield places, rows.astype(self.store.segments.dtype)

    def write(self, file: BinaryIO) -> None:
        """Write the file, with one block of averages in memory at a time."""
        known = self.known
        head = ((known.ids, "<i8"), (known.crcs, "<i8"), (known.near, "<i8"), (known.distances, "<f4"))
        file.writelines(np.ascontiguousarray(array, dtype).tobytes() for array, dtype in head)
        file.writelines(np.ascontiguousarray(rows, rows.dtype.newbyteorder("<")).tobytes() for _, rows in self.each())


def _current(store: Store, ids: Ids, crcs: Ids) -> SmoothedRows | None:
    """Return the averaged vectors that were used last, or those of the file, if they are those of these images."""
    found = _used.get(store)
    if found is None or not found.known.are_those_of(ids, crcs):
        found = _load(store)
        if found is None or not found.known.are_those_of(ids, crcs):
            return None
        _used[store] = found
    return found


def _load(store: Store) -> SmoothedRows | None:
    """Return the averaged vectors of the file, mapped; None where there is none, or it is damaged."""
    file = _recorded(store.catalogue)
    metadata = None if file is None else _metadata(store, file)
    if file is None or metadata is None:
        return None
    path = os.path.join(store.path, derived.FOLDER, file.name)
    with derived.opened(path, file.sha256, file.size, silent=True) as opened:
        if opened is None:
            return None
        data = np.memmap(opened, np.uint8, "r")
    arrays, start = [], 0
    for dtype, shape in metadata.columns():
        end = start + dtype.itemsize * math.prod(shape)
        arrays.append(data[start:end].view(dtype).reshape(shape))
        start = end
    ids, crcs, near, distances, vectors = arrays
    return SmoothedRows(Neighbourhoods(ids, crcs, near, distances), vectors, metadata.search)


def _unchecked_known(store: Store, file: derived.DerivedFile, metadata: SmoothedMetadata) -> Neighbourhoods:
    """Return ids and CRC32s of a file that is not checked; none where it is missing or has another size."""
    path, none = os.path.join(store.path, derived.FOLDER, file.name), Neighbourhoods.none()
    try:
        if not os.path.isfile(path) or os.path.getsize(path) != file.size:
            return none
        ids, crcs = np.fromfile(path, "<i8", 2 * metadata.rows).reshape(2, -1)
    except (OSError, ValueError):
        return none
    return Neighbourhoods(ids, crcs, none.near, none.distances)


def _metadata(store: Store, file: derived.DerivedFile) -> SmoothedMetadata | None:
    """Return the metadata of a file; None where the file is not one of this store."""
    try:
        metadata = SmoothedMetadata.from_json(file.provenance)
    except ValueError:
        return None
    of_store = (store.segments.dimension, store.segments.dtype.name)
    fits = (metadata.dimension, metadata.dtype) == of_store and metadata.size() == file.size
    return metadata if fits else None


def _recorded(catalogue: Catalogue) -> derived.DerivedFile | None:
    return next((file for file in derived.all_recorded(catalogue) if file.name in NAMES), None)


def _table(store: Store) -> tuple[Ids, Ids]:
    """Return the ids of the present images, rising, and the CRC32s of their vectors."""
    table = store.location_table()
    return table[:, 0].copy(), table[:, 3].copy()


def _is_unit(store: Store) -> bool:
    return Recipe.from_json(store.recipe_json).norm == "l2"
