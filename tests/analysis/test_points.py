"""Tests that k-means reads stored blocks as it reads a matrix, and that torch finds the same centroids as BLAS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from imgindex.analysis import kmeans as kmeans_file
from imgindex.analysis.kmeans import kmeans
from imgindex.analysis.points import Points, nearest_by_faiss
from imgindex.analysis.torch_nearest import nearest_on
from imgindex.errors import IndexDamaged
from imgindex.types import Rows


def blobs(n: int, d: int, k: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((k, d))[rng.integers(k, size=n)] + rng.standard_normal((n, d))).astype(np.float32)


def in_blocks(vectors: np.ndarray, seed: int = 0) -> list[Rows]:
    """The vectors in three blocks and an empty one, ids in no order, among rows that belong to no image."""
    rng = np.random.default_rng(seed)
    blocks = [Rows(np.empty(0, np.int64), vectors[:0])]
    for ids in np.array_split(rng.permutation(len(vectors)), 3):
        shown = np.sort(rng.choice(2 * len(ids), len(ids), replace=False))
        rows, numbers = np.full((2 * len(ids), vectors.shape[1]), np.nan, vectors.dtype), np.full(2 * len(ids), -1)
        rows[shown], numbers[shown] = vectors[ids], ids
        blocks.append(Rows(numbers, rows))
    return blocks


@pytest.mark.parametrize("offset", [0, 300])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_stored_blocks_are_clustered_as_the_matrix_in_the_order_of_ids(dtype: type, offset: float) -> None:
    vectors = (blobs(900, 80, 7) + np.float32(offset)).astype(dtype)
    whole = kmeans(vectors.astype(np.float32), 7)
    parts = kmeans(Points.stored(in_blocks(vectors), 80), 7)
    np.testing.assert_array_equal(parts.labels, whole.labels)
    np.testing.assert_array_equal(parts.centroids, whole.centroids)
    assert parts.objective == whole.objective


def test_rows_that_lie_together_are_not_copied_and_others_keep_their_order() -> None:
    vectors = blobs(6000, 600, 3)
    for places, block in Points.of(vectors).blocks():
        assert np.shares_memory(block, vectors)
        np.testing.assert_array_equal(block, vectors[places])
    chosen = np.array([5, 4, 17, 17, 0])
    np.testing.assert_array_equal(Points.stored(in_blocks(vectors), 600)[chosen], vectors[chosen])


def test_a_damaged_block_is_refused_and_only_rows_of_images_are_checked() -> None:
    checked = []

    def check(rows: np.ndarray) -> None:
        checked.extend(rows.tolist())
        raise IndexDamaged("the vector of image 7 is damaged")

    with pytest.raises(IndexDamaged, match="image 7"):
        Points.stored([Rows(np.array([-1, 7, -1, 3]), blobs(4, 2, 1), check)], 2)
    assert checked == [1, 3]


def test_torch_finds_the_nearest_centroids_that_faiss_finds() -> None:
    vectors, centroids = blobs(2000, 100, 20), blobs(30, 100, 20, seed=1)
    vectors.flags.writeable = False  # as in a map
    labels, scores = nearest_by_faiss(centroids)(vectors)
    by_torch, their_scores = nearest_on(torch.device("cpu"))(centroids)(vectors)
    np.testing.assert_array_equal(by_torch, labels)
    np.testing.assert_allclose(their_scores, scores, rtol=1e-4, atol=1e-3)
    exact = ((vectors[:, None].astype(np.float64) - centroids) ** 2).sum(axis=2)
    np.testing.assert_array_equal(labels, exact.argmin(axis=1))


def test_k_means_by_torch_ends_where_k_means_by_faiss_ends() -> None:
    points = Points.of(blobs(3000, 200, 12))
    by_torch = kmeans(replace(points, nearest=nearest_on(torch.device("cpu"))), 12)
    by_blas = kmeans(points, 12)
    np.testing.assert_array_equal(by_torch.labels, by_blas.labels)
    assert by_torch.objective == pytest.approx(by_blas.objective, rel=1e-6)


def test_very_many_rows_are_all_clustered_from_a_start_among_some(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = blobs(6000, 40, 10)
    monkeypatch.setattr(kmeans_file, "CHEAP", 1.0)
    whole = kmeans(vectors, 10)
    monkeypatch.setattr(kmeans_file, "SEARCHED_ROWS", 640)
    some = kmeans(vectors, 10)
    assert sum(some.sizes) == 6000
    assert some.converged
    assert some.objective == pytest.approx(whole.objective, rel=2e-3)
    distances = ((vectors[:, None].astype(np.float64) - some.centroids) ** 2).sum(axis=2)
    assert some.objective == pytest.approx(distances.min(axis=1).sum(), rel=1e-5)
    np.testing.assert_array_equal(some.labels, distances.argmin(axis=1))
