"""The images least like any other, by what lies nearest to each, and what is odd about them."""

from __future__ import annotations

import numpy as np

from imgindex.curating.neighbours import Ids, each_nearest
from imgindex.curating.oddness import Usual
from imgindex.embedding.recipe import Recipe
from imgindex.embedding.sandbox import Decoders
from imgindex.errors import UsageError
from imgindex.storage.store import Store
from imgindex.types import Outlier


def outliers(store: Store, recipe: Recipe, n: int, decoders: Decoders, only: Ids | None = None) -> list[Outlier]:
    """Return the n images whose nearest other image is farthest away, the farthest first, ties by id.

    Only these n are decoded, to tell what they look like. Raises UsageError for n below 1, IndexDamaged.
    """
    if n < 1:
        raise UsageError(f"-n {n}: at least one image must be asked for")
    with store.reading():
        parts = [(ids, near.ids[:, 0], near.distances[:, 0]) for ids, near in each_nearest(store, 1, only)]
        if not parts:
            return []
        ids, nearest, distances = (np.concatenate(column) for column in zip(*parts, strict=True))
        ids, nearest, distances = (column[nearest >= 0] for column in (ids, nearest, distances))
        order = np.lexsort((ids, -distances))[:n]
        apart = distances[distances > 0]
        middle = float(np.median(apart)) if len(apart) else 1.0
        chosen = ids[order].tolist()
        paths = store.catalogue.image_paths({*chosen, *nearest[order].tolist()})
        usual = Usual.of(store.catalogue.images() if only is None else store.catalogue.records(only.tolist()))
        looks = usual.look(store.catalogue.records(chosen), recipe, decoders)
    return [
        Outlier(rank, paths[id], distance, distance / middle, paths[other], id, _reason(distance, middle, look))
        for rank, (id, distance, other, look) in enumerate(
            zip(chosen, distances[order].tolist(), nearest[order].tolist(), looks, strict=True), 1
        )
    ]


def _reason(distance: float, middle: float, look: list[str]) -> str:
    """Put in words what stands in the columns, then what is odd about the image besides, where anything is."""
    times = distance / middle
    if not distance:
        far = "has its like"
    elif times < 1:
        far = "nearer to its nearest than most are"
    else:
        far = f"{times:.1f} times as far from its nearest as half of the images are"
    return "; ".join([far, *look])
