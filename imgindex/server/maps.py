"""The maps of a server: those that it has read or made, and a map as the page reads it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, get_args

import numpy as np

from imgindex.gallery.kept_maps import find_map, map_state
from imgindex.gallery.map import Map
from imgindex.index import ImageIndex
from imgindex.server import schema
from imgindex.server.map_groups import Groups
from imgindex.server.messages import to_json
from imgindex.types import OnProgress, Vectors


class Maps:
    """The maps in memory by their methods, each with the digest of the images that it has."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, Map]] = {}

    def find(self, index: ImageIndex, method: str, images: str) -> Map | None:
        """Return the map of the present images if it is at hand; images: their digest."""
        known = self._known.get(method)
        if known is not None and known[0] == images:
            return known[1]
        found = find_map(index._store, method)
        if found is not None:
            self._known[method] = images, found
        return found

    def make(self, index: ImageIndex, method: str, *, seed: int, anew: bool, on_progress: OnProgress) -> Map:
        """Make a map, or place new images on the one that is kept. Raises as `ImageIndex.map`."""
        before = index._store.catalogue.images_digest()
        found = index.map(method, seed=seed, anew=anew, on_progress=on_progress)
        # The index may be locked now, so that the map is not kept there.
        if index._store.catalogue.images_digest() == before:
            self._known[method] = before, found
        return found

    def states(self, index: ImageIndex) -> list[dict[str, Any]]:
        """Return what is known of the map by each method: it is made where new images can at most be placed on it."""
        images, found = index._store.catalogue.images_digest(), []
        for method in get_args(schema.MapMethod):
            state = map_state(index._store, method)
            is_made = state is not None or self._known.get(method, ("",))[0] == images
            unknown = {"made_at": None, "placed": 0, "removed": 0}
            known = {} if state is None else {name: asdict(state)[name] for name in unknown}
            found.append({"method": method, "is_made": is_made, **unknown, **known})
        return found


def encoded(found: Map, groups: Groups) -> bytes:
    """Return n as uint32, n ids uint32, n x and n y uint16 (0…65535), n groups int16 (−1: none), and JSON.

    The JSON has the name, the number of images and a number for the colour of each group.
    """
    columns = (found.ids.astype("<u4"), *_scaled(found.xy).T, groups.of_each.astype("<i2"))
    data = len(found.ids).to_bytes(4, "little") + b"".join(column.tobytes() for column in columns)
    return data + to_json(groups.all)


def _scaled(xy: Vectors) -> Any:
    """Return points (n, 2) as uint16, moved and scaled by one factor, so that the longer extent is 0…65535."""
    if not len(xy):
        return np.empty((0, 2), "<u2")
    low, high = xy.min(axis=0), xy.max(axis=0)
    extent = float((high - low).max()) or 1.0
    centred = (xy - (low + high) / 2) / extent + 0.5
    return (centred * 65535).round().astype("<u2")
