"""How well rows lie in their clusters, against scikit-learn and plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples, silhouette_score

from imgindex.clustering.kmeans import kmeans
from imgindex.clustering.metrics import measure_fit, nearest_labels, silhouette_scores
from imgindex.vectors.rows import VectorRows


def clouds(n: int, k: int, d: int, *, seed: int = 0, away: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(k, d)) * 3
    return (centres[rng.integers(k, size=n)] + rng.normal(size=(n, d)) + away).astype(np.float32)


@pytest.mark.parametrize("away", [0.0, 1000.0])
def test_distances_margins_and_second_clusters_are_those_of_plain_numpy(away: float) -> None:
    rows = clouds(500, 6, 12, away=away)
    found = kmeans(rows, 6)
    fit = measure_fit(VectorRows.of(rows), found.labels, found.centroids)
    exact = np.linalg.norm(rows[:, None].astype(np.float64) - found.centroids[None], axis=2)
    order = np.argsort(exact, axis=1)
    here = np.arange(len(rows))
    np.testing.assert_allclose(fit.distances, exact[here, found.labels], rtol=1e-4)
    np.testing.assert_array_equal(fit.second_labels, order[:, 1])
    np.testing.assert_allclose(fit.margins, exact[here, order[:, 1]] - exact[here, order[:, 0]], rtol=1e-2, atol=1e-3)
    np.testing.assert_array_equal(nearest_labels(VectorRows.of(rows), found.centroids), order[:, 0])


def test_silhouettes_of_few_rows_are_scikit_learns() -> None:
    rows = clouds(800, 5, 8)
    found = kmeans(rows, 5)
    fit = measure_fit(VectorRows.of(rows), found.labels, found.centroids, silhouettes=True)
    np.testing.assert_allclose(fit.silhouettes, silhouette_samples(rows, found.labels), atol=1e-5)


def test_a_row_alone_in_its_cluster_has_a_silhouette_of_zero() -> None:
    rows = np.array([[0, 0], [0, 1], [9, 9]], np.float32)
    fit = measure_fit(
        VectorRows.of(rows), np.array([0, 0, 1]), np.array([[0, 0.5], [9, 9]], np.float32), silhouettes=True
    )
    np.testing.assert_allclose(fit.silhouettes, silhouette_samples(rows, [0, 0, 1]), atol=1e-6)
    assert fit.silhouettes[2] == 0


def test_silhouettes_of_many_rows_come_near_the_true_ones() -> None:
    rows = clouds(21_000, 20, 16)
    found = kmeans(rows, 20)
    fit = measure_fit(VectorRows.of(rows), found.labels, found.centroids, silhouettes=True)
    some = np.random.default_rng(1).choice(len(rows), 300, replace=False)
    true = []
    for row in some:
        distances = np.linalg.norm(rows - rows[row], axis=1)
        means = np.bincount(found.labels, distances) / np.bincount(found.labels)
        own = found.labels[row]
        inside = means[own] * found.sizes[own] / (found.sizes[own] - 1)
        means[own] = np.inf
        true.append((means.min() - inside) / max(means.min(), inside))
    assert np.abs(fit.silhouettes[some] - true).max() < 0.05
    assert abs(fit.silhouettes[some].mean() - np.mean(true)) < 0.005


def test_one_cluster_has_no_second_one() -> None:
    rows = clouds(10, 1, 3)
    fit = measure_fit(VectorRows.of(rows), np.zeros(10, np.int64), rows.mean(axis=0, keepdims=True), silhouettes=True)
    assert (fit.second_labels == -1).all()
    assert np.isnan(fit.margins).all()
    assert (fit.silhouettes == 0).all()


@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 1, 1, 2, 2], [0, 1, 1, 1, 1, 1, 1, 1], [3, 3, 7, 7, 7, 3, 9, 3]])
def test_silhouettes_by_distances_are_those_of_scikit_learn(labels: list[int]) -> None:
    rows = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    distances = np.linalg.norm(rows[:, None] - rows, axis=2)
    among = np.ones(8, bool)
    scores = silhouette_scores(distances, np.array(labels), np.array(labels), among=among, k=10)
    np.testing.assert_allclose(scores, silhouette_samples(rows, labels), atol=1e-6)
    assert scores.mean() == pytest.approx(silhouette_score(rows, labels), abs=1e-6)


def test_a_row_that_equals_another_cluster_has_the_silhouette_that_scikit_learn_gives_it() -> None:
    rows, labels = np.array([[0.0], [4.0], [0.0], [0.0]], np.float32), np.array([0, 0, 1, 1])
    scores = silhouette_scores(np.abs(rows - rows.T), labels, labels, among=np.ones(4, bool), k=2)
    np.testing.assert_allclose(scores, silhouette_samples(rows, labels), atol=1e-6)
    assert scores[0] == -1


def test_one_cluster_has_no_silhouette() -> None:
    zeros = np.zeros(3, np.int64)
    assert not silhouette_scores(np.ones((3, 3), np.float32), zeros, zeros, among=np.ones(3, bool), k=1).any()
