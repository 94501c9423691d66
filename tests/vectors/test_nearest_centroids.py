from __future__ import annotations

import numpy as np
import pytest

from imgindex.vectors.nearest_centroids import nearest_centroids


@pytest.mark.parametrize("rows", [1, 7, 5000])
@pytest.mark.parametrize("m", [1, 2, 9])
def test_the_nearest_are_those_of_the_definition(rows: int, m: int) -> None:
    rng = np.random.default_rng(0)
    centroids, vectors = (rng.standard_normal((count, 12), dtype=np.float32) for count in (9, rows))
    labels, squares = nearest_centroids(centroids, m)(vectors)
    every = ((vectors[:, np.newaxis].astype(np.float64) - centroids) ** 2).sum(axis=2)
    assert (labels == np.argsort(every, axis=1)[:, :m]).all()
    assert np.allclose(squares, np.sort(every, axis=1)[:, :m], atol=1e-4)
