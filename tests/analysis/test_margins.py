"""How well rows lie in their clusters, against scikit-learn and plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples

from imgindex.analysis.fit import fit, nearest
from imgindex.analysis.kmeans import kmeans
from imgindex.analysis.points import Points


def clouds(n: int, k: int, d: int, *, seed: int = 0, away: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(k, d)) * 3
    return (centres[rng.integers(k, size=n)] + rng.normal(size=(n, d)) + away).astype(np.float32)


@pytest.mark.parametrize("away", [0.0, 1000.0])
def test_distances_margins_and_second_clusters_are_those_of_plain_numpy(away: float) -> None:
    rows = clouds(500, 6, 12, away=away)
    found = kmeans(rows, 6)
    told = fit(Points.of(rows), found.labels, found.centroids)
    exact = np.linalg.norm(rows[:, None].astype(np.float64) - found.centroids[None], axis=2)
    order = np.argsort(exact, axis=1)
    here = np.arange(len(rows))
    np.testing.assert_allclose(told.distances, exact[here, found.labels], rtol=1e-4)
    np.testing.assert_array_equal(told.seconds, order[:, 1])
    np.testing.assert_allclose(told.margins, exact[here, order[:, 1]] - exact[here, order[:, 0]], rtol=1e-2, atol=1e-3)
    np.testing.assert_array_equal(nearest(Points.of(rows), found.centroids), order[:, 0])


def test_silhouettes_of_few_rows_are_scikit_learns() -> None:
    rows = clouds(800, 5, 8)
    found = kmeans(rows, 5)
    told = fit(Points.of(rows), found.labels, found.centroids, silhouettes=True)
    np.testing.assert_allclose(told.silhouettes, silhouette_samples(rows, found.labels), atol=1e-5)


def test_a_row_alone_in_its_cluster_has_a_silhouette_of_zero() -> None:
    rows = np.array([[0, 0], [0, 1], [9, 9]], np.float32)
    told = fit(Points.of(rows), np.array([0, 0, 1]), np.array([[0, 0.5], [9, 9]], np.float32), silhouettes=True)
    np.testing.assert_allclose(told.silhouettes, silhouette_samples(rows, [0, 0, 1]), atol=1e-6)
    assert told.silhouettes[2] == 0


def test_silhouettes_of_many_rows_come_near_the_true_ones() -> None:
    rows = clouds(21_000, 20, 16)
    found = kmeans(rows, 20)
    told = fit(Points.of(rows), found.labels, found.centroids, silhouettes=True)
    some = np.random.default_rng(1).choice(len(rows), 300, replace=False)
    true = []
    for row in some:
        distances = np.linalg.norm(rows - rows[row], axis=1)
        means = np.bincount(found.labels, distances) / np.bincount(found.labels)
        own = found.labels[row]
        inside = means[own] * found.sizes[own] / (found.sizes[own] - 1)
        means[own] = np.inf
        true.append((means.min() - inside) / max(means.min(), inside))
    assert np.abs(told.silhouettes[some] - true).max() < 0.05
    assert abs(told.silhouettes[some].mean() - np.mean(true)) < 0.005


def test_one_cluster_has_no_second_one() -> None:
    rows = clouds(10, 1, 3)
    told = fit(Points.of(rows), np.zeros(10, np.int64), rows.mean(axis=0, keepdims=True), silhouettes=True)
    assert (told.seconds == -1).all()
    assert np.isnan(told.margins).all()
    assert (told.silhouettes == 0).all()
