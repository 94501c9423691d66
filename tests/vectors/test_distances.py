"""The distances of an index against those of all its pairs."""

from __future__ import annotations

import numpy as np
import pytest
from vector_samples import blobs, in_blocks

from imgindex.vectors.distances import distance_distribution
from imgindex.vectors.rows import VectorRows


def all_pairs(vectors: np.ndarray) -> np.ndarray:
    first, second = np.triu_indices(len(vectors), 1)
    return np.linalg.norm(vectors[first].astype(np.float64) - vectors[second], axis=1)


def test_of_few_images_all_pairs_are_compared() -> None:
    vectors = blobs(120, 30, 4)
    scale = distance_distribution(VectorRows.stored(in_blocks(vectors), 30))
    assert scale.exact
    pairs = np.sort(all_pairs(vectors))
    np.testing.assert_allclose(scale.distances, pairs, rtol=1e-5)
    assert scale.typical == pytest.approx(np.median(pairs), rel=1e-5)


def test_a_sample_of_many_pairs_has_nearly_the_true_distribution_and_is_the_same_each_time() -> None:
    vectors = blobs(1500, 16, 9)
    pairs = all_pairs(vectors)
    scale = distance_distribution(VectorRows.of(vectors))
    assert not scale.exact
    assert len(scale.distances) == 200_000
    assert scale.distances[0] > 0  # no image is a pair with itself
    for share in (0.01, 0.2, 0.5, 0.9):
        assert (scale.distances > np.quantile(pairs, 1 - share)).mean() == pytest.approx(share, abs=0.005)
    np.testing.assert_array_equal(scale.distances, distance_distribution(VectorRows.of(vectors)).distances)


@pytest.mark.parametrize("n", [0, 1])
def test_without_pairs_there_is_no_typical_distance(n: int) -> None:
    assert distance_distribution(VectorRows.of(blobs(n, 4, 1))).typical is None
