"""Tests k-means: true labels and objective, no empty cluster, determinism, scikit-learn's partitions, refusals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from imgindex.analysis import kmeans as kmeans_file
from imgindex.analysis import points as points_file
from imgindex.analysis.kmeans import KMeansResult, kmeans
from imgindex.analysis.lloyd import Lloyd
from imgindex.analysis.points import Points
from imgindex.analysis.seeding import split_and_merge
from imgindex.errors import TooFewDistinctVectors


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    # Thousands of tiny parallel regions crawl on a machine that others use too.
    with threadpool_limits(1):
        yield


def blobs(n: int, d: int, k: int, *, gap: float = 1.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((k, d)) * gap
    return (centres[rng.integers(k, size=n)] + rng.standard_normal((n, d))).astype(np.float32)


def exact_distances(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    x, c = vectors.astype(np.float64), centroids.astype(np.float64)
    return np.stack([((x - one) ** 2).sum(axis=1) for one in c], axis=1)


def assert_sound(vectors: np.ndarray, k: int, result: KMeansResult) -> None:
    n, d = vectors.shape
    assert result.labels.dtype == np.int64
    assert result.labels.shape == (n,)
    assert result.centroids.dtype == np.float32
    assert result.centroids.shape == (k, d)
    assert result.sizes == tuple(np.bincount(result.labels, minlength=k))
    assert len(result.sizes) == k
    assert min(result.sizes) >= 1
    first = [int(np.flatnonzero(result.labels == label)[0]) for label in range(k)]
    assert [*zip(result.sizes, first, strict=True)] == sorted(
        zip(result.sizes, first, strict=True), key=lambda pair: (-pair[0], pair[1])
    )
    distances = exact_distances(vectors, result.centroids)
    own = distances[np.arange(n), result.labels]
    assert result.objective == pytest.approx(own.sum(), rel=1e-5, abs=1e-12)
    scale = ((vectors - vectors.mean(axis=0, dtype=np.float64)) ** 2).sum(axis=1).mean()
    offset = float((vectors.mean(axis=0, dtype=np.float64) ** 2).sum())
    assert (own <= distances.min(axis=1) + 1e-5 * scale + 1e-6 * min(offset, 20 * scale)).all()
    assert result.objective == min(result.restart_objectives)


@pytest.mark.parametrize(
    ("n", "d", "k"), [(300, 2, 5), (1000, 64, 20), (400, 300, 8), (500, 1000, 300), (60, 4096, 5), (1, 3, 1), (7, 3, 1)]
)
def test_result_is_sound(n: int, d: int, k: int) -> None:
    vectors = blobs(n, d, k)
    result = kmeans(vectors, k, restarts=2)
    assert_sound(vectors, k, result)
    assert result.converged
    assert result.iterations >= 1


@pytest.mark.parametrize("d", [2, 300])
def test_as_many_clusters_as_rows(d: int) -> None:
    vectors = blobs(40, d, 4)
    for result in (kmeans(vectors, 40), kmeans(vectors, 40, init=vectors)):
        assert_sound(vectors, 40, result)
        assert set(result.sizes) == {1}
        assert result.objective == 0
        assert result.labels.tolist() == list(range(40))


def test_large_problems_take_the_short_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans_file, "CHEAP", 1.0)
    monkeypatch.setattr(points_file, "BLOCK_BYTES", 1 << 20)
    vectors = blobs(2000, 600, 12, gap=0.12)
    result = kmeans(vectors, 12)
    assert_sound(vectors, 12, result)
    assert len(result.restart_objectives) == 1
    assert result.converged
    assert result.objective <= 1.002 * KMeans(12, n_init=1, random_state=0).fit(vectors).inertia_
    assert_sound(vectors, 12, kmeans(vectors, 12, iterations=1))
    assert_sound(vectors[:12], 12, kmeans(vectors[:12], 12))


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


@pytest.mark.parametrize(("n", "d", "k", "gap"), [(1000, 50, 10, 2.0), (800, 512, 20, 0.3), (1500, 20, 15, 0.5)])
def test_no_worse_than_scikit_learn(n: int, d: int, k: int, gap: float) -> None:
    vectors = blobs(n, d, k, gap=gap)
    assert kmeans(vectors, k).objective <= 1.002 * KMeans(k, n_init=10, random_state=0).fit(vectors).inertia_


def test_no_worse_than_scikit_learn_on_digits() -> None:
    vectors = load_digits().data.astype(np.float32)
    assert kmeans(vectors, 10).objective <= 1.0005 * KMeans(10, n_init=10, random_state=0).fit(vectors).inertia_


def test_same_seed_same_answer_whatever_numpys_state() -> None:
    vectors = blobs(900, 300, 12, gap=0.2)
    np.random.seed(1)
    one = kmeans(vectors, 12, seed=5, restarts=2)
    np.random.seed(2)
    state = np.random.get_state()[1].copy()
    two = kmeans(vectors.copy(), 12, seed=5, restarts=2)
    assert (np.random.get_state()[1] == state).all()
    np.testing.assert_array_equal(one.labels, two.labels)
    np.testing.assert_array_equal(one.centroids, two.centroids)
    assert one.restart_objectives == two.restart_objectives


IN_A_PROCESS = """
import hashlib, numpy as np
from imgindex.analysis.kmeans import kmeans
vectors = np.random.default_rng(0).random((900, 300), dtype=np.float32)
print(hashlib.sha256(kmeans(vectors, 12, seed=5, restarts=1).labels.tobytes()).hexdigest())
"""


def test_same_seed_same_answer_in_two_processes_and_silence() -> None:
    command = [sys.executable, "-c", IN_A_PROCESS]
    one, two = (subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2))
    assert len(one.stdout.strip()) == 64
    assert (one.stdout, one.stderr) == (two.stdout, "")


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    kmeans(blobs(50, 4, 3), 20)
    kmeans(np.repeat(blobs(6, 3, 6), 1000, axis=0), 6)
    assert capfd.readouterr() == ("", "")


def test_a_longer_list_of_restarts_begins_like_a_shorter_one() -> None:
    vectors = np.random.default_rng(0).random((500, 20), dtype=np.float32)
    few, many = (kmeans(vectors, 15, restarts=r).restart_objectives for r in (2, 4))
    assert few == many[:2]
    assert len(many) == 4


@pytest.mark.parametrize("factor", [1e-3, 1e4])
def test_scale_does_not_matter(factor: float) -> None:
    vectors = blobs(500, 40, 6, gap=1.5)
    one, two = kmeans(vectors, 6), kmeans(vectors * np.float32(factor), 6)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert two.objective == pytest.approx(one.objective * factor**2, rel=1e-4)


@pytest.mark.parametrize("d", [40, 600])
@pytest.mark.parametrize("offset", [10.0, 5000.0])
def test_a_common_offset_does_not_matter(offset: float, d: int) -> None:
    vectors = blobs(700, d, 6, gap=1.5)
    one, two = (kmeans(v, 6, restarts=1) for v in (vectors, vectors + np.float32(offset)))
    np.testing.assert_array_equal(one.labels, two.labels)
    assert two.objective == pytest.approx(one.objective, rel=1e-3)
    assert_sound(vectors + np.float32(offset), 6, two)


@pytest.mark.parametrize("d", [3, 400])
def test_duplicated_rows(d: int) -> None:
    points = blobs(6, d, 6)
    vectors = np.repeat(points, 1000, axis=0)[np.random.default_rng(0).permutation(6000)]
    result = kmeans(vectors, 6)
    assert result.sizes == (1000,) * 6
    assert result.objective == pytest.approx(0, abs=1e-6 * float((vectors**2).sum()))
    assert_sound(vectors, 5, kmeans(vectors, 5))


def test_a_start_with_one_point_many_times_still_fills_every_cluster() -> None:
    vectors = np.repeat(blobs(8, 5, 8), 50, axis=0)
    result = kmeans(vectors, 8, init=np.repeat(vectors[:1], 8, axis=0))
    assert_sound(vectors, 8, result)
    assert result.sizes == (50,) * 8


def test_rows_closer_than_float32_products_can_tell_still_fill_every_cluster() -> None:
    vectors = np.ones((20, 8), np.float32)
    vectors[:, 0] = 1000
    for i in range(20):
        vectors[i, 1] = np.float32(1) + np.float32(i % 5) * np.finfo(np.float32).eps
    vectors[0, 0] = -1e6
    result = kmeans(vectors, 6)
    assert min(result.sizes) >= 1
    assert sum(result.sizes) == 20
    assert result.objective == pytest.approx(0, abs=1e-9)


def test_a_memory_map_and_other_layouts_give_the_same_answer(tmp_path: Path) -> None:
    vectors = blobs(500, 300, 5)
    vectors.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float32, "r", shape=vectors.shape)
    expected = kmeans(vectors, 5, restarts=1).labels
    for other in (mapped, np.asfortranarray(vectors), vectors.astype(np.float64), mapped[::1]):
        np.testing.assert_array_equal(kmeans(other, 5, restarts=1).labels, expected)
    shifted = vectors + np.float32(1000)
    shifted.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float32, "r", shape=vectors.shape)
    np.testing.assert_array_equal(kmeans(mapped, 5, restarts=1).labels, kmeans(shifted, 5, restarts=1).labels)


def test_splitting_and_merging_leaves_a_bad_local_optimum() -> None:
    vectors = blobs(2000, 10, 8, gap=20)
    stuck = Lloyd(Points.of(vectors), 8)
    stuck.centroids = vectors[:8] * np.float32(1e-3) + vectors[0]
    stuck.run(300)
    best = KMeans(8, n_init=20, random_state=0).fit(vectors).inertia_
    assert stuck.objective > 1.5 * best
    assert split_and_merge(vectors, stuck).objective == pytest.approx(best, rel=1e-3)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 60), d=st.integers(1, 12), k=st.integers(1, 12), grid=st.integers(1, 6), seed=st.integers(0, 2**31)
)
def test_small_random_collections(n: int, d: int, k: int, grid: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).integers(-grid, grid + 1, (n, d)).astype(np.float32)
    distinct = len(np.unique(vectors, axis=0))
    if distinct < k:
        with pytest.raises(TooFewDistinctVectors):
            kmeans(vectors, k, seed=seed)
        return
    result = kmeans(vectors, k, seed=seed, restarts=2)
    assert_sound(vectors, k, result)
    np.testing.assert_array_equal(result.labels, kmeans(vectors, k, seed=seed, restarts=2).labels)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(k=st.integers(1, 8), d=st.integers(2, 30), seed=st.integers(0, 2**31))
def test_easy_blobs_are_found(k: int, d: int, seed: int) -> None:
    vectors = blobs(200, d, k, gap=8, seed=seed)
    reference = KMeans(k, n_init=10, random_state=0).fit(vectors).inertia_
    assert kmeans(vectors, k, seed=seed, restarts=2).objective <= 1.05 * reference
