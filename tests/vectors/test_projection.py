"""Vectors on a plane: principal components against numpy's, UMAP and t-SNE by what they keep together."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.metrics import silhouette_score
from vector_samples import blobs, in_blocks

from imgindex.errors import ExtraMissing, UsageError
from imgindex.vectors import projection
from imgindex.vectors.projection import principal_components, project_to_plane
from imgindex.vectors.rows import VectorRows


def exact(vectors: np.ndarray, count: int) -> np.ndarray:
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:count]
    directions *= np.sign(directions[np.arange(count), np.abs(directions).argmax(axis=1)])[:, None]
    return centred @ directions.T


@pytest.mark.parametrize(("n", "d"), [(300, 40), (20_000, 64), (200, 700), (50, 2)])
@pytest.mark.parametrize("offset", [0, 100])
def test_principal_components_are_those_of_numpy_and_turned_the_same_way(n: int, d: int, offset: float) -> None:
    vectors = blobs(n, d, 6) + np.float32(offset)
    expected = exact(vectors, 2)
    np.testing.assert_allclose(project_to_plane(VectorRows.of(vectors)), expected, atol=2e-3 * np.abs(expected).max())


def test_ten_components_hold_as_much_variance_as_the_ten_best() -> None:
    vectors = blobs(3000, 300, 20)
    found, best = principal_components(VectorRows.of(vectors), 10), exact(vectors, 10)
    assert (found.astype(np.float64) ** 2).sum() == pytest.approx((best**2).sum(), rel=1e-3)


def test_stored_blocks_in_half_precision_give_what_the_matrix_gives() -> None:
    vectors = blobs(900, 50, 5).astype(np.float16)
    stored = project_to_plane(VectorRows.stored(in_blocks(vectors), 50))
    np.testing.assert_allclose(stored, project_to_plane(VectorRows.of(vectors.astype(np.float32))), atol=1e-3)


def test_few_points_and_equal_ones_get_finite_coordinates() -> None:
    for n in (0, 1, 2, 3):
        for method in ("pca", "pacmap", "umap", "tsne"):
            made = project_to_plane(VectorRows.of(blobs(n, 8, 2)), method)
            assert made.shape == (n, 2)
            assert np.isfinite(made).all()
    assert not project_to_plane(VectorRows.of(np.full((30, 8), 0.3, np.float32))).any()
    line = np.arange(10, dtype=np.float32)[:, None]
    np.testing.assert_allclose(project_to_plane(VectorRows.of(line))[:, 0], line[:, 0] - 4.5, atol=1e-5)


@pytest.mark.parametrize("method", ["pacmap", "umap", "tsne"])
def test_a_layout_keeps_clusters_together_and_the_same_seed_gives_the_same_map(method: str) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 40)
    vectors = (4 * rng.standard_normal((4, 60))[labels] + rng.standard_normal((160, 60))).astype(np.float32)
    made = project_to_plane(VectorRows.of(vectors), method, seed=3)
    assert made.dtype == np.float32
    assert silhouette_score(made, labels) > 0.6
    np.testing.assert_array_equal(made, project_to_plane(VectorRows.of(vectors), method, seed=3))


def test_umap_is_given_exact_neighbours_and_equal_rows_are_at_distance_zero() -> None:
    vectors = np.concatenate([blobs(60, 20, 3), blobs(60, 20, 3)[:20]])
    rows, distances = projection._neighbours(vectors, 15)
    exact = np.linalg.norm(vectors[:, None] - vectors, axis=2)
    np.testing.assert_array_equal(rows[:, 0], np.arange(80))
    np.testing.assert_allclose(distances, np.sort(exact, axis=1)[:, :15], rtol=1e-4)
    assert (distances[:20, 1] == 0).all()
    assert (distances[20:60, 1] > 0).all()


@pytest.mark.parametrize("n", [10, 12, 40])
@pytest.mark.parametrize("method", ["pacmap", "umap", "tsne"])
def test_a_layout_works_from_ten_images_on(method: str, n: int) -> None:
    made = project_to_plane(VectorRows.of(blobs(n, 20, 3)), method)
    assert made.shape == (n, 2)
    assert np.isfinite(made).all()


@pytest.mark.parametrize(("method", "package"), [("umap", "umap-learn"), ("pacmap", "pacmap")])
def test_without_its_library_a_method_names_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch, method: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, method, None)
    with pytest.raises(ExtraMissing) as raised:
        project_to_plane(VectorRows.of(blobs(20, 8, 2)), method)
    assert f"pip install {package}`" in raised.value.hint


def test_pacmap_lays_out_some_and_places_the_others_where_their_neighbours_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 90)
    vectors = (6 * rng.standard_normal((3, 60))[labels] + rng.standard_normal((270, 60))).astype(np.float32)
    monkeypatch.setattr(projection, "MOST_LAID_OUT", 100)
    seen: list[str] = []
    made = project_to_plane(VectorRows.of(vectors), "pacmap", on_progress=lambda progress: seen.append(progress.stage))
    assert silhouette_score(made, labels) > 0.6
    assert seen == ["principal components", "layout by pacmap"]
    # A row that equals one that was laid out stands where that stands.
    twice = np.concatenate([vectors[:90], vectors[:90]])
    monkeypatch.setattr(projection, "MOST_LAID_OUT", 90)
    order = np.arange(180).reshape(2, 90).T.ravel()
    placed = project_to_plane(VectorRows.of(twice[order]), "pacmap")
    np.testing.assert_allclose(placed[0::2], placed[1::2], atol=0.05)
    assert caplog.records == []


def test_other_methods_and_too_much_for_tsne_are_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="isomap"):
        project_to_plane(VectorRows.of(blobs(20, 8, 2)), "isomap")
    monkeypatch.setattr(projection, "MOST_TSNE", 15)
    with pytest.raises(UsageError) as raised:
        project_to_plane(VectorRows.of(blobs(20, 8, 2)), "tsne")
    assert "umap" in raised.value.hint


@pytest.mark.parametrize("method", ["pca", "pacmap", "umap", "tsne"])
def test_a_seed_may_be_any_number_from_0_up(method: str) -> None:
    points = VectorRows.of(blobs(20, 8, 2))
    first, second = (project_to_plane(points, method, seed=10**30) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    with pytest.raises(UsageError, match="seed"):
        project_to_plane(points, method, seed=-1)
