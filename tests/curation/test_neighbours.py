"""The nearest others of each image, against a matrix of all distances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from collections_of import of_vectors

import imgindex.curation.neighbours
import imgindex.search.lifecycle
from imgindex.curation.neighbours import each_nearest


@pytest.mark.parametrize("rows", [10, 10**6])
def test_each_image_gets_its_nearest_others(tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imgindex.curation.neighbours, "QUERIES", 4)
    monkeypatch.setattr(imgindex.search.lifecycle, "EXACT_ROWS", rows)
    vectors = np.random.default_rng(0).uniform(0, 1, (16, 12)).astype(np.float32)
    vectors[4] = vectors[7]
    distances = np.linalg.norm(vectors[:, None] - vectors, axis=2)
    np.fill_diagonal(distances, np.inf)
    distances = np.delete(distances, 3, axis=1)
    seen = []
    with of_vectors(tmp_path / "it.imgindex", vectors) as index:
        index.remove(index.paths()[3])
        for ids, near in each_nearest(index._store, 20):
            assert near.ids.shape == (len(ids), 20)
            assert (near.ids[:, 14:] == -1).all()
            for id, found in zip(ids, near.distances, strict=True):
                np.testing.assert_allclose(found[:14], np.sort(distances[id - 1])[:14], rtol=1e-5, atol=1e-6)
            assert not (near.ids == ids[:, None]).any()
            seen += ids.tolist()
    assert sorted(seen) == [id for id in range(1, 17) if id != 4]
