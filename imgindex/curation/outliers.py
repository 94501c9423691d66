"""The images least like any other, by the distance to the nearest image, and what is unusual about them."""

from __future__ import annotations

import numpy as np

from imgindex.curation.neighbours import each_nearest
from imgindex.curation.outlier_reasons import TypicalImage
from imgindex.decoding.pool import DecoderPool
from imgindex.errors import UsageError
from imgindex.recipe import Recipe
from imgindex.results import Outlier, Outliers
from imgindex.storage.store import Store
from imgindex.types import OnProgress, counted

# An image is called far from its nearest one when they are more than this many times as far apart as the median.
FAR = 1.5


def outliers(
    store: Store, recipe: Recipe, n: int, decoders: DecoderPool, *, on_progress: OnProgress = lambda progress: None
) -> Outliers:
    """Return the n images whose nearest other image is farthest away, the farthest first, ties by id.

    Only these n are decoded, to find what is unusual about them. Raises UsageError for n below 1, IndexDamaged.
    """
    if n < 1:
        raise UsageError(f"n is {n}: at least one image must be asked for")
    with store.reading():
        each = each_nearest(store, 1, on_progress=on_progress)
        parts = [(ids, near.ids[:, 0], near.distances[:, 0]) for ids, near in each]
        if not parts:
            return Outliers()
        ids, nearest, distances = (np.concatenate(column) for column in zip(*parts, strict=True))
        ids, nearest, distances = (column[nearest >= 0] for column in (ids, nearest, distances))
        nonzero = distances[distances > 0]
        median = float(np.median(nonzero)) if len(nonzero) else 1.0
        order = np.lexsort((ids, -distances))[:n]
        by_id = np.argsort(ids)
        mutual = nearest[by_id[np.searchsorted(ids, nearest[order], sorter=by_id)]] == ids[order]
        paths = store.catalogue.image_paths({*ids[order].tolist(), *nearest[order].tolist()})
        typical = TypicalImage.of(store.catalogue.images())
        images = store.catalogue.records(ids[order].tolist())
        of_each = typical.each_reasons(images, recipe, decoders)
        reasons = list(counted(of_each, len(images), "decode", on_progress, every=1))
    found = zip(ids[order].tolist(), distances[order].tolist(), nearest[order].tolist(), strict=True)
    return Outliers(
        Outlier(
            rank,
            paths[id],
            distance,
            distance / median,
            paths[other],
            id,
            other,
            _reason(distance / median, pair, unusual),
        )
        for rank, ((id, distance, other), pair, unusual) in enumerate(
            zip(found, mutual.tolist(), reasons, strict=True), 1
        )
    )


def _reason(times: float, mutual: bool, unusual: list[str]) -> str:
    """Put into words what the distance to the nearest image means, then what else is unusual about the image.

    How many times as far as usual that is has a field of its own.
    """
    if times == 0:
        distance = "another has the same vector"
    elif times <= FAR:
        distance = "about as far from its nearest image as usual"
    elif mutual:
        distance = "it and its nearest image are a pair apart from the rest"
    else:
        distance = "far from its nearest image"
    return "; ".join([distance, *unusual])
