"""Torch finds the same centroids as BLAS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from vector_samples import blobs

from imgindex.clustering.kmeans import kmeans
from imgindex.clustering.nearest_torch import nearest_on
from imgindex.vectors.rows import VectorRows, nearest_by_faiss


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
    points = VectorRows.of(blobs(3000, 200, 12))
    by_torch = kmeans(replace(points, nearest=nearest_on(torch.device("cpu"))), 12)
    by_blas = kmeans(points, 12)
    np.testing.assert_array_equal(by_torch.labels, by_blas.labels)
    assert by_torch.objective == pytest.approx(by_blas.objective, rel=1e-6)
