"""Images that stand in both of two sets, as a training set and a test set that were to be apart."""

from __future__ import annotations

import numpy as np

from imgindex.answers.curation import Leak
from imgindex.curating.neighbours import Ids, by_content, each_nearest
from imgindex.errors import PathNotFound, UsageError
from imgindex.storage.paths import under
from imgindex.storage.store import Store

Pair = tuple[int, int]


def leak(store: Store, a: str, b: str, distance: float, n: int) -> list[Leak]:
    """Return the pairs of an image below the absolute path `a` and one below `b` within a distance, nearest first.

    n: at most so many of `b`, the nearest, for each image of `a`. An image that is below both is no pair with itself.

    Raises UsageError for n below 1, PathNotFound where the index has no image below one of the paths, IndexDamaged.
    """
    if n < 1:
        raise UsageError(f"-n {n}: at least one image must be asked for")
    with store.reading():
        ids, contents = by_content(store)
        content = dict(zip(ids.tolist(), contents.tolist(), strict=True))
        paths = store.catalogue.image_paths()
        of_a, of_b = _below(store, a, paths), _below(store, b, paths)
        found: dict[Pair, float] = {}
        for some, near in each_nearest(store, min(n, len(of_b)), of_a, among=of_b):
            within = (near.ids >= 0) & (near.distances <= distance)
            pairs = zip(np.repeat(some, within.sum(axis=1)).tolist(), near.ids[within].tolist(), strict=True)
            found.update(zip(pairs, near.distances[within].tolist(), strict=True))
    # An image below both paths meets another one twice.
    order = sorted((apart, pair) for pair, apart in found.items() if not (pair[::-1] in found and pair[0] > pair[1]))
    return [
        Leak(rank, paths[x], paths[y], "exact" if content[x] == content[y] else "near", apart, x, y)
        for rank, (apart, (x, y)) in enumerate(order, 1)
    ]


def _below(store: Store, folder: str, paths: dict[int, str]) -> Ids:
    ours = under([store.paths.canonical(folder)])
    ids = np.array([id for id, path in paths.items() if ours(path)], dtype=np.int64)
    if not len(ids):
        raise PathNotFound(f"the index has no image at {folder}", hint="`imgindex list` shows what it has")
    return ids
