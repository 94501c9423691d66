"""The images least like any other, by what lies nearest to each, and what is odd about them."""

from __future__ import annotations

import numpy as np

from imgindex.curating.neighbours import each_nearest
from imgindex.curating.oddness import Usual
from imgindex.embedding.recipe import Recipe
from imgindex.embedding.sandbox import Decoders
from imgindex.errors import UsageError
from imgindex.storage.store import Store
from imgindex.types import Outlier

# An image that is so many times as far from its nearest as the one in the middle is apart from the rest.
FAR = 1.5


def outliers(store: Store, recipe: Recipe, n: int, decoders: Decoders) -> list[Outlier]:
    """Return the n images whose nearest other image is farthest away, the farthest first, ties by id.

    Only these n are decoded, to tell what they look like. Raises UsageError for n below 1, IndexDamaged.
    """
    if n < 1:
        raise UsageError(f"-n {n}: at least one image must be asked for")
    with store.reading():
        parts = [(ids, near.ids[:, 0], near.distances[:, 0]) for ids, near in each_nearest(store, 1)]
        if not parts:
            return []
        ids, nearest, distances = (np.concatenate(column) for column in zip(*parts, strict=True))
        ids, nearest, distances = (column[nearest >= 0] for column in (ids, nearest, distances))
        apart = distances[distances > 0]
        middle = float(np.median(apart)) if len(apart) else 1.0
        order = np.lexsort((ids, -distances))[:n]
        by_id = np.argsort(ids)
        mutual = nearest[by_id[np.searchsorted(ids, nearest[order], sorter=by_id)]] == ids[order]
        paths = store.catalogue.image_paths({*ids[order].tolist(), *nearest[order].tolist()})
        usual = Usual.of(store.catalogue.images())
        looks = list(usual.look(store.catalogue.records(ids[order].tolist()), recipe, decoders))
    found = zip(ids[order].tolist(), distances[order].tolist(), nearest[order].tolist(), strict=True)
    return [
        Outlier(rank, paths[id], distance, distance / middle, paths[other], id, _reason(distance / middle, pair, look))
        for rank, ((id, distance, other), pair, look) in enumerate(zip(found, mutual.tolist(), looks, strict=True), 1)
    ]


def _reason(times: float, mutual: bool, look: list[str]) -> str:
    """Put into words how far the image is from its nearest, then what else is odd about it, where anything is."""
    if times == 0:
        return "; ".join(["another has the same vector", *look])
    far = f"{times:.1f} times as far from its nearest as half of the images are"
    pair = ["which has none nearer either: a pair apart from the rest"] if mutual and times > FAR else []
    return "; ".join([", ".join([far, *pair]), *look])
