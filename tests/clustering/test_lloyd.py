"""Lloyd's steps: they end where scikit-learn's do, in time, and leave no cluster empty."""

from __future__ import annotations

import numpy as np
import pytest
from kmeans_checks import assert_sound, blobs
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score

from imgindex.clustering.kmeans import kmeans

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("vectors", "k"),
    [
        (blobs(1500, 30, 7, gap=3), 7),
        (blobs(600, 4096, 6, gap=0.2) * 5 - 1, 6),
        (np.random.default_rng(3).random((2000, 16), dtype=np.float32), 10),
        (load_digits().data.astype(np.float32), 10),
    ],
    ids=["blobs", "4096", "uniform", "digits"],
)
def test_same_partition_as_scikit_learn_from_the_same_start(vectors: np.ndarray, k: int) -> None:
    vectors = np.ascontiguousarray(vectors)
    init = vectors[np.random.default_rng(1).choice(len(vectors), k, replace=False)]
    theirs = KMeans(k, init=init, n_init=1, max_iter=300, tol=0, algorithm="lloyd").fit(vectors)
    ours = kmeans(vectors, k, init=init)
    assert adjusted_rand_score(theirs.labels_, ours.labels) == 1.0
    assert ours.objective == pytest.approx(theirs.inertia_, rel=1e-5)
    assert ours.converged
    assert len(ours.restart_objectives) == 1


def test_iterations_are_a_limit() -> None:
    vectors = np.random.default_rng(0).random((3000, 8), dtype=np.float32)
    init = vectors[:30]
    short, longer = (kmeans(vectors, 30, init=init, iterations=limit) for limit in (1, 5))
    assert (short.iterations, short.converged) == (1, False)
    assert (longer.iterations, longer.converged) == (5, False)
    assert longer.objective < short.objective
    assert_sound(vectors, 30, short)


def test_a_start_with_one_point_many_times_still_fills_every_cluster() -> None:
    vectors = np.repeat(blobs(8, 5, 8), 50, axis=0)
    result = kmeans(vectors, 8, init=np.repeat(vectors[:1], 8, axis=0))
    assert_sound(vectors, 8, result)
    assert result.sizes == (50,) * 8
