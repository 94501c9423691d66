"""Clustered vectors for the tests of k-means, and what every result of it must fulfil."""

from __future__ import annotations

import numpy as np
import pytest

from imgindex.clustering.kmeans import KMeansResult


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
