"""Keeps maps of an index in derived files, one for each method, so that each is laid out once.

While the index changes, its images stay where they are on a map: new ones, and those with another vector, are placed
among their nearest, and those that are gone vanish. A map of which too much has changed is laid out anew.

A file holds, little-endian: the ids int64 (n,), the CRC32s of the vectors uint32 (n,), the coordinates float32 (n, 2),
and uint8 (n,), 1 for images that were placed after the layout.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from dataclasses import asdict, dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from imgindex.errors import IndexDamaged, IndexLocked
from imgindex.gallery.map import Map, make_map
from imgindex.search.smoothed import vector_rows
from imgindex.storage import derived
from imgindex.storage.ledger import timestamp
from imgindex.storage.store import Store
from imgindex.types import Ids, OnProgress, Progress, Vectors
from imgindex.vectors.projection import FEW, METHODS, place_among

# Another number wherever other coordinates are made of the same vectors: older maps are then made again.
VERSION = 2
# The share of the images of a layout that may have come, gone or changed since.
MOST_CHANGED = 0.2
BYTES = 8 + 4 + 8 + 1


@dataclass(frozen=True, slots=True)
class MapMetadata:
    """How a map was laid out, and of how many images; rows: the images that it has now."""

    version: int
    method: str
    seed: int
    rows: int
    laid_out: int
    made_at: str


@dataclass(frozen=True, slots=True)
class MapState:
    """A map that is kept.

    made_at: when it was laid out, UTC. placed: present images that came, or got another vector, since then. removed:
    images of the layout that are not there any more, or are not as they were. is_complete: whether the map has all
    present images, so that none has to be placed now.
    """

    made_at: str
    placed: int
    removed: int
    is_complete: bool


@dataclass(frozen=True, slots=True)
class _Kept:
    """A map as it is kept, of n images, and which of the present images (m) it has.

    at (m,): their places in it, −1 for those that it lacks. ids (m,), crcs (m,): of the present images.
    """

    metadata: MapMetadata
    xy: Vectors
    is_placed: npt.NDArray[np.bool_]
    at: Ids
    ids: Ids
    crcs: Ids

    @property
    def state(self) -> MapState:
        laid_out = int((~self.is_placed[self.at[self.at >= 0]]).sum())
        return MapState(
            self.metadata.made_at,
            len(self.ids) - laid_out,
            self.metadata.laid_out - laid_out,
            bool((self.at >= 0).all()),
        )


def kept_map(
    store: Store, method: str, *, seed: int, anew: bool = False, on_progress: OnProgress = lambda progress: None
) -> Map:
    """Return the map of the present images: the kept one, in which new images are placed, or a new one.

    anew: lay it out again, however little has changed. What is made is kept where the index can be written to. Raises
    UsageError, ExtraMissing or IndexDamaged as `make_map`.
    """
    with store.reading():
        table = store.location_table()
        kept = None if anew else _find(store, method, seed)
        if kept is not None and kept.state.is_complete:
            return _as_map(store, kept)
        if kept is not None:
            kept = _complete(store, kept, on_progress)
            found = _as_map(store, kept)
        else:
            found = make_map(store, method, seed=seed, on_progress=on_progress)
            rows = len(found.ids)
            kept = _Kept(
                MapMetadata(VERSION, method, seed, rows, rows, timestamp()),
                found.xy,
                np.zeros(rows, bool),
                np.arange(rows),
                table[:, 0],
                table[:, 3],
            )
    if len(found.ids):
        _keep(store, kept)
    return found


def find_map(store: Store, method: str, *, seed: int = 42) -> Map | None:
    """Return the map that is kept; None where there is none, or a present image would have to be placed on it."""
    with store.reading():
        kept = _find(store, method, seed)
        return _as_map(store, kept) if kept is not None and kept.state.is_complete else None


def map_state(store: Store, method: str, *, seed: int = 42) -> MapState | None:
    """Return what is known of the map that is kept; None where there is none, or it has to be laid out anew."""
    with store.reading():
        kept = _find(store, method, seed)
        return None if kept is None else kept.state


def _names(method: str) -> tuple[str, str]:
    """Return the names of a method's files: a new one is written beside the old one, which is read until then."""
    return f"map-{method}.xy", f"map-{method}-2.xy"


def _find(store: Store, method: str, seed: int) -> _Kept | None:
    """Return the map that is kept, unless too much has changed since its layout."""
    for file in derived.all_recorded(store.catalogue):
        if method not in METHODS or file.name not in _names(method):
            continue
        with contextlib.suppress(ValueError):
            made = derived.read_metadata(MapMetadata, file.provenance, "a map")
            if (made.version, made.method, made.seed) == (VERSION, method, seed) and made.laid_out > 0:
                kept = _read(store, file, made)
                if kept is not None and _is_fresh(kept):
                    return kept
    return None


def _is_fresh(kept: _Kept) -> bool:
    state, laid_out = kept.state, kept.metadata.laid_out
    is_unchanged = state.placed == state.removed == 0
    # Nothing can be placed among few images.
    return is_unchanged or (laid_out >= FEW and max(state.placed, state.removed) <= MOST_CHANGED * laid_out)


def _read(store: Store, file: derived.DerivedFile, made: MapMetadata) -> _Kept | None:
    n = made.rows
    if file.size != BYTES * n:
        return None
    path = os.path.join(store.path, derived.FOLDER, file.name)
    with derived.opened(path, file.sha256, file.size) as opened:
        data = None if opened is None else opened.read(file.size)
    if data is None or len(data) != file.size:
        return None
    ids, crcs = np.frombuffer(data, "<i8", n), np.frombuffer(data, "<u4", n, 8 * n)
    xy = np.frombuffer(data, "<f4", 2 * n, 12 * n).reshape(-1, 2)
    is_placed = np.frombuffer(data, np.uint8, n, 20 * n).astype(bool)
    table = store.location_table()
    at = np.searchsorted(ids, table[:, 0]).clip(max=n - 1)
    at[(ids[at] != table[:, 0]) | (crcs[at] != table[:, 3])] = -1
    return _Kept(made, xy, is_placed, at, table[:, 0], table[:, 3])


def _complete(store: Store, kept: _Kept, on_progress: OnProgress) -> _Kept:
    """Return a map with all present images: those that it lacks are placed among their nearest of the layout."""
    known = kept.at >= 0
    count = len(kept.ids)
    xy, is_placed = np.empty((count, 2), np.float32), np.ones(count, bool)
    xy[known], is_placed[known] = kept.xy[kept.at[known]], kept.is_placed[kept.at[known]]
    on_progress(Progress("place new images", 0, int((~known).sum())))
    laid_out = np.flatnonzero(~is_placed)
    points = vector_rows(store, smooth=False)
    xy[~known] = place_among(points, laid_out, xy[laid_out], np.flatnonzero(~known))
    metadata = MapMetadata(**{**asdict(kept.metadata), "rows": count})
    return _Kept(metadata, xy, is_placed, np.arange(count), kept.ids, kept.crcs)


def _as_map(store: Store, kept: _Kept) -> Map:
    paths = list(store.catalogue.image_paths().values())
    return Map(kept.ids, paths, kept.xy[kept.at], kept.metadata.method, kept.metadata.seed)


def _keep(store: Store, kept: _Kept) -> None:
    """Write a complete map to its file; where the index cannot be written to now, it is made again the next time."""
    names = _names(kept.metadata.method)
    with contextlib.suppress(IndexLocked, IndexDamaged, OSError, sqlite3.Error), store.writing() as writer:
        recorded = {file.name for file in derived.all_recorded(writer.catalogue)}
        name = names[1] if names[0] in recorded else names[0]
        columns = (kept.ids.astype("<i8"), kept.crcs.astype("<u4"), kept.xy.astype("<f4"), kept.is_placed.astype("u1"))
        data = b"".join(np.ascontiguousarray(column).tobytes() for column in columns)
        path = os.path.join(store.path, derived.FOLDER, name)
        sha256, size = derived.write(path, lambda file: _write(file, data))
        new = derived.DerivedFile(name, size, sha256, {}, json.dumps(asdict(kept.metadata)))
        derived.record(writer.catalogue, new, instead=names)
        derived.sweep_unrecorded(writer.catalogue, os.path.join(store.path, derived.FOLDER))


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)
