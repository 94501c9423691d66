"""Where k-means begins: at the means of examples, and out of a bad local optimum."""

from __future__ import annotations

import numpy as np
import pytest
from kmeans_checks import blobs
from sklearn.cluster import KMeans

from imgindex.clustering.lloyd import Lloyd
from imgindex.clustering.seeding import anchored_centroids, split_and_merge
from imgindex.vectors.rows import VectorRows

pytestmark = pytest.mark.usefixtures("one_thread")


def test_k_means_begins_at_the_means_of_examples_and_then_far_from_them() -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(at, 0.1, (500, 2)) for at in ((0, 0), (9, 0), (0, 9))]).astype(np.float32)
    found = anchored_centroids(VectorRows.of(rows), [rows[:4], rows[500:501]], 3, seed=1)
    np.testing.assert_allclose(found[0], rows[:4].mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(found[1], rows[500])
    assert np.linalg.norm(found[2] - (0, 9)) < 1


def test_splitting_and_merging_leaves_a_bad_local_optimum() -> None:
    vectors = blobs(2000, 10, 8, gap=20)
    stuck = Lloyd(VectorRows.of(vectors), 8)
    stuck.centroids = vectors[:8] * np.float32(1e-3) + vectors[0]
    stuck.run(300)
    best = KMeans(8, n_init=20, random_state=0).fit(vectors).inertia_
    assert stuck.objective > 1.5 * best
    assert split_and_merge(vectors, stuck).objective == pytest.approx(best, rel=1e-3)
