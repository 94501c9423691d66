"""Neighbours of the images themselves: a search for the vector of an image finds the image, too."""

from __future__ import annotations

import numpy as np

from imgindex.types import Ids, Neighbours


def without_themselves(ids: Ids, near: Neighbours) -> Neighbours:
    """Return neighbours (q, n) from (q, n + 1): without the image itself, or without the last one if it is missing."""
    place = (near.ids == ids[:, None]).argmax(axis=1)
    place[near.ids[np.arange(len(ids)), place] != ids] = near.ids.shape[1] - 1
    kept = np.arange(near.ids.shape[1]) != place[:, None]
    shape = (len(ids), near.ids.shape[1] - 1)
    return Neighbours(near.ids[kept].reshape(shape), near.distances[kept].reshape(shape))
