"""Tests k-means: true labels and objective, no empty cluster, determinism, no worse than scikit-learn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kmeans_checks import assert_sound, blobs
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from imgindex.clustering import kmeans as kmeans_file
from imgindex.clustering.kmeans import kmeans
from imgindex.errors import TooFewDistinctVectors
from imgindex.vectors import rows as points_file

pytestmark = pytest.mark.usefixtures("one_thread")


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
    monkeypatch.setattr(kmeans_file, "RESTARTED", 1.0)
    monkeypatch.setattr(points_file, "BLOCK_BYTES", 1 << 20)
    vectors = blobs(2000, 600, 12, gap=0.12)
    result = kmeans(vectors, 12)
    assert_sound(vectors, 12, result)
    assert len(result.restart_objectives) == 1
    assert result.converged
    assert result.objective <= 1.002 * KMeans(12, n_init=1, random_state=0).fit(vectors).inertia_
    assert_sound(vectors, 12, kmeans(vectors, 12, iterations=1))
    assert_sound(vectors[:12], 12, kmeans(vectors[:12], 12))


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
from imgindex.clustering.kmeans import kmeans
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


def test_very_many_rows_are_all_clustered_from_a_start_found_in_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = blobs(6000, 40, 10)
    monkeypatch.setattr(kmeans_file, "CHEAP", 1.0)
    monkeypatch.setattr(kmeans_file, "RESTARTED", 1.0)
    whole = kmeans(vectors, 10)
    monkeypatch.setattr(kmeans_file, "SEARCHED_ROWS", 640)
    some = kmeans(vectors, 10)
    assert sum(some.sizes) == 6000
    assert some.converged
    assert some.objective == pytest.approx(whole.objective, rel=2e-3)
    distances = ((vectors[:, None].astype(np.float64) - some.centroids) ** 2).sum(axis=2)
    assert some.objective == pytest.approx(distances.min(axis=1).sum(), rel=1e-5)
    np.testing.assert_array_equal(some.labels, distances.argmin(axis=1))
