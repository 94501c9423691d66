"""Keeps maps of an index in derived files, one for each method, so that none is made twice of the same vectors.

A file holds the ids int64 (n,) and then the coordinates float32 (n, 2), both little-endian.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
from dataclasses import asdict, dataclass
from typing import BinaryIO

import numpy as np

from imgindex.errors import IndexDamaged, IndexLocked
from imgindex.gallery.map import Map, make_map
from imgindex.storage import derived
from imgindex.storage.store import Store
from imgindex.types import OnProgress
from imgindex.vectors.projection import METHODS

# Another number wherever other coordinates are made of the same vectors: older maps are then made again.
VERSION = 1


@dataclass(frozen=True, slots=True)
class MapMetadata:
    """What a map was made of; images: a digest of the ids and the CRC32s of the vectors."""

    version: int
    method: str
    seed: int
    rows: int
    images: str


def kept_map(store: Store, method: str, *, seed: int, on_progress: OnProgress = lambda progress: None) -> Map:
    """Return the map of the present images that is kept, or make one and keep it where the index can be written to.

    Raises UsageError, ExtraMissing or IndexDamaged as `make_map`.
    """
    found = find_map(store, method, seed=seed)
    if found is not None:
        return found
    with store.reading():
        images = store.once(_digest)
        found = make_map(store, method, seed=seed, on_progress=on_progress)
    if len(found.ids):
        _keep(store, found, images)
    return found


def find_map(store: Store, method: str, *, seed: int = 42) -> Map | None:
    """Return the map of the present images if it is kept."""
    with store.reading():
        for file in derived.all_recorded(store.catalogue):
            if file.name not in _names(method):
                continue
            with contextlib.suppress(ValueError):
                made = derived.read_metadata(MapMetadata, file.provenance, "a map")
                if made == MapMetadata(VERSION, method, seed, made.rows, store.once(_digest)):
                    return _read(store, file, made)
    return None


def kept_methods(store: Store) -> list[str]:
    """Return the methods whose maps of the present images are kept, with the usual seed."""
    return [method for method in METHODS if find_map(store, method) is not None]


def _names(method: str) -> tuple[str, str]:
    """Return the names of a method's files: a new one is written beside the old one, which is read until then."""
    return f"map-{method}.xy", f"map-{method}-2.xy"


def _digest(store: Store) -> str:
    table = np.ascontiguousarray(store.location_table()[:, [0, 3]], "<i8")
    return hashlib.sha256(table.tobytes()).hexdigest()


def _read(store: Store, file: derived.DerivedFile, made: MapMetadata) -> Map | None:
    path = os.path.join(store.path, derived.FOLDER, file.name)
    if file.size != 16 * made.rows:
        return None
    with derived.opened(path, file.sha256, file.size) as opened:
        data = None if opened is None else opened.read(file.size)
    if data is None or len(data) != file.size:
        return None
    ids = np.frombuffer(data, "<i8", made.rows)
    xy = np.frombuffer(data, "<f4", 2 * made.rows, 8 * made.rows).reshape(-1, 2)
    return Map(ids, list(store.catalogue.image_paths().values()), xy, made.method, made.seed)


def _keep(store: Store, found: Map, images: str) -> None:
    """Write a map to its file; where the index cannot be written to now, it is made again the next time."""
    metadata = MapMetadata(VERSION, found.method, found.seed, len(found.ids), images)
    names = _names(found.method)
    with contextlib.suppress(IndexLocked, IndexDamaged, OSError, sqlite3.Error), store.writing() as writer:
        recorded = {file.name for file in derived.all_recorded(writer.catalogue)}
        name = names[1] if names[0] in recorded else names[0]
        data = found.ids.astype("<i8").tobytes() + np.ascontiguousarray(found.xy, "<f4").tobytes()
        path = os.path.join(store.path, derived.FOLDER, name)
        sha256, size = derived.write(path, lambda file: _write(file, data))
        new = derived.DerivedFile(name, size, sha256, {}, json.dumps(asdict(metadata)))
        derived.record(writer.catalogue, new, instead=names)
        derived.sweep_unrecorded(writer.catalogue, os.path.join(store.path, derived.FOLDER))


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)
