"""The map of an index, and the scale by which a distance is judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from imgindex import ImageIndex
from imgindex.gallery.map import make_map, make_scale


def test_a_map_has_every_present_image_in_the_order_of_ids_and_repeats_itself(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    index.remove([folder / "a/0.png"])
    found = make_map(index._store, "pca", seed=3)
    assert (found.ids.tolist(), found.paths) == (index.ids().tolist(), index.paths())
    assert (found.xy.shape, found.xy.dtype, found.method, found.seed) == ((11, 2), np.float32, "pca", 3)
    # Two axes of PCA have the greatest variance that any two can have.
    centred = index.vectors() - index.vectors().mean(axis=0)
    variance = np.linalg.svd(centred, compute_uv=False)[:2] ** 2
    np.testing.assert_allclose(np.sort((found.xy**2).sum(axis=0))[::-1], variance, rtol=1e-3)
    np.testing.assert_array_equal(make_map(index._store, "pca", seed=3).xy, found.xy)


def test_the_scale_is_of_all_pairs_of_a_small_index(index: ImageIndex, folder: Path) -> None:
    assert make_scale(index._store).typical is None
    index.add([folder])
    scale = make_scale(index._store)
    assert (len(scale.distances), scale.exact) == (12 * 11 / 2, True)
    assert scale.typical is not None
    assert scale.distances[0] <= scale.typical <= scale.distances[-1]
