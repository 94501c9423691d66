"""Images that are in both of two sets, such as a training set and a test set that should be apart."""

from __future__ import annotations

import numpy as np

from imgindex.curation.neighbours import each_nearest, first_with_same_content
from imgindex.curation.thresholds import threshold
from imgindex.errors import PathNotFound, UsageError
from imgindex.recipe import Recipe
from imgindex.results import Leak
from imgindex.storage.named import find_named
from imgindex.storage.store import Store
from imgindex.types import Ids

Pair = tuple[int, int]


def leak(store: Store, recipe: Recipe, a: str, b: str, *, distance: float | None, n: int) -> list[Leak]:
    """Return pairs of an image below the absolute path `a` and one below `b` within a distance, nearest first.

    n: how many images of `b`, the nearest, are compared with each image of `a`. An image below both paths makes no pair
    with itself.

    Raises UsageError for n below 1, PathNotFound where the index has no image below one of the paths, IndexDamaged.
    """
    if n < 1:
        raise UsageError(f"-n {n}: at least one image must be asked for")
    distance = threshold(recipe, distance)
    with store.reading():
        ids, contents = first_with_same_content(store)
        content = dict(zip(ids.tolist(), contents.tolist(), strict=True))
        paths = store.catalogue.image_paths()
        of_a, of_b = _below(store, a, paths), _below(store, b, paths)
        found: dict[Pair, float] = {}
        for ids_of_block, near in each_nearest(store, min(n, len(of_b)), of_a, among=of_b):
            within = (near.ids >= 0) & (near.distances <= distance)
            pairs = zip(np.repeat(ids_of_block, within.sum(axis=1)).tolist(), near.ids[within].tolist(), strict=True)
            found.update(zip(pairs, near.distances[within].tolist(), strict=True))
    # Two images that are both below both paths are found twice.
    order = sorted(
        (distance, pair) for pair, distance in found.items() if not (pair[::-1] in found and pair[0] > pair[1])
    )
    return [
        Leak(rank, paths[x], paths[y], "exact" if content[x] == content[y] else "near", distance, x, y)
        for rank, (distance, (x, y)) in enumerate(order, 1)
    ]


def _below(store: Store, folder: str, paths: dict[int, str]) -> Ids:
    ids = np.array([id for id in find_named(store.catalogue, [folder]).images if id in paths], dtype=np.int64)
    if not len(ids):
        raise PathNotFound(f"the index has no image at {folder}", hint="`imgindex list` shows its images")
    return ids
