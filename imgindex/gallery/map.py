"""Coordinates of all images on a plane, and the distribution of the distances between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgindex.search.smoothed import vector_rows
from imgindex.search.upkeep import prepare_smoothing
from imgindex.storage.store import Store
from imgindex.types import OnProgress, Vectors
from imgindex.vectors.distances import DistanceDistribution, distance_distribution
from imgindex.vectors.projection import project_to_plane


@dataclass(frozen=True, slots=True)
class Map:
    """Images on a plane: `xy` float32 (n, 2) in the order of `ids` and `paths`; method and seed: how they were made."""

    ids: npt.NDArray[np.int64]
    paths: list[str]
    xy: Vectors
    method: str
    seed: int

    def __repr__(self) -> str:
        return f"<Map of {len(self.ids):,} images by {self.method}, seed {self.seed}>"


def make_map(store: Store, method: str, *, seed: int, on_progress: OnProgress = lambda progress: None) -> Map:
    """Return the coordinates of all present images, in the order of ids, from one state of the index.

    method: pca, pacmap, umap or tsne. Raises UsageError, ExtraMissing or IndexDamaged.
    """
    with store.reading():
        paths = store.catalogue.image_paths()
        points = vector_rows(store, smooth=False)
        xy = project_to_plane(points, method, seed=seed, on_progress=on_progress)
    return Map(np.fromiter(paths, dtype=np.int64), list(paths.values()), xy, method, seed)


def make_scale(store: Store, *, smooth: bool = False) -> DistanceDistribution:
    """Return the distribution of distances between images, by which one distance can be judged as large or small.

    smooth: between averaged vectors. Raises IndexDamaged.
    """
    if smooth:
        prepare_smoothing(store)
    with store.reading():
        return distance_distribution(vector_rows(store, smooth=smooth))
