"""How the images of an index lie: on a plane that one can look at, and how far apart its pairs are."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgindex.analysis.points import Points
from imgindex.analysis.projection import plane
from imgindex.analysis.scale import Scale, pair_scale
from imgindex.storage.paths import shown
from imgindex.storage.store import Store
from imgindex.types import Vectors


@dataclass(frozen=True, slots=True)
class Map:
    """Images on a plane: `xy` float32 (n, 2) in the order of `ids` and `paths`, made by `method` from `seed`."""

    ids: npt.NDArray[np.int64]
    paths: list[str]
    xy: Vectors
    method: str
    seed: int


def make_map(store: Store, method: str, *, seed: int) -> Map:
    """Return all images that are shown on a plane, in the order of ids, from one state of the index.

    Raises UsageError, ExtraMissing or IndexDamaged.
    """
    with store.reading():
        here = os.getcwd()
        paths = store.catalogue.image_paths()
        points = Points.stored(store.blocks(), store.segments.dimension)
        xy = plane(points, method, seed=seed)
    names = [shown(path, here=here) for path in paths.values()]
    return Map(np.fromiter(paths, dtype=np.int64), names, xy, method, seed)


def make_scale(store: Store) -> Scale:
    """Return the distances of all pairs of images, or of many: they tell whether one distance is great or small.

    Raises IndexDamaged.
    """
    with store.reading():
        return pair_scale(Points.stored(store.blocks(), store.segments.dimension))
