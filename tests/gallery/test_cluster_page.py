"""The page of a clustering, against a plain computation of all distances."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from grid_mean import GRID_RECIPE
from pictures import draw

from imgindex import Clustering, ImageIndex
from imgindex.clustering.kmeans import kmeans
from imgindex.gallery.cluster_page import CANDIDATES, cluster_page, medoid
from imgindex.results import Cluster
from imgindex.storage.records import NewImage
from imgindex.storage.store import Store
from imgindex.types import FoundFile
from imgindex.vectors.rows import VectorRows


@pytest.fixture
def gallery(index: ImageIndex, tmp_path: Path) -> ImageIndex:
    """Sixty pictures: thirty reddish, twenty greenish, ten bluish."""
    rng = np.random.default_rng(1)
    for number in range(60):
        colour = rng.integers(0, 60, size=3)
        colour[0 if number < 30 else 1 if number < 50 else 2] += 170
        draw(tmp_path / "p" / f"{number:02}.png", tuple(colour.tolist()))
    index.add([tmp_path / "p"])
    return index


def test_each_cluster_has_its_medoid_its_nearest_farthest_and_borderline_images(gallery: ImageIndex) -> None:
    gallery.cluster(3)
    gallery.clusterings.rename_cluster(0, "reds")
    clustering = gallery.clusterings.newest
    page = gallery.gallery(clustering).page
    vectors = gallery.vectors().astype(np.float64)
    own = np.linalg.norm(vectors[:, None] - clustering.centroids[None], axis=2)
    assert [view.size for view in page.clusters] == [30, 20, 10] == list(clustering.sizes)
    assert [view.title for view in page.clusters] == ["reds (cluster 0)", "cluster 1", "cluster 2"]
    for view in page.clusters:
        members = np.flatnonzero(clustering.labels == view.label)
        between = np.linalg.norm(vectors[members][:, None] - vectors[members][None], axis=2)
        to_centre = own[members, view.label]
        margin = np.sort(np.delete(own[members], view.label, axis=1), axis=1)[:, 0] - to_centre
        assert view.medoid.id == clustering.ids[members[between.sum(axis=1).argmin()]]
        assert [one.id for one in view.nearest] == clustering.ids[members[to_centre.argsort()[:8]]].tolist()
        assert [one.id for one in view.borderline] == clustering.ids[members[margin.argsort()[:8]]].tolist()
        farthest = clustering.ids[members[to_centre.argsort()[::-1]]].tolist()
        assert [one.id for one in view.farthest] == farthest[: min(8, view.size - 8)]
        for one in view.nearest:
            place = clustering.ids.tolist().index(one.id)
            assert one.path == clustering.paths[place]
            assert one.distance == pytest.approx(own[place, view.label], abs=1e-5)
        assert all("nearer than" in one.note for one in view.borderline)
    assert any("nearer than reds" in one.note for view in page.clusters[1:] for one in view.borderline)


def test_the_map_has_every_image_once_with_its_label(gallery: ImageIndex) -> None:
    clustering = gallery.cluster(3)
    page = gallery.gallery(clustering, maps=("pca", "tsne")).page
    assert page.map is not None
    assert list(page.map.ids) == clustering.ids.tolist()
    assert list(page.map.labels) == clustering.labels.tolist()
    assert list(page.map.xy) == ["pca", "tsne"]
    np.testing.assert_allclose(page.map.xy["pca"], gallery.map().xy, atol=1e-4)
    assert gallery.gallery(clustering, maps=()).page.map is None


def test_images_that_were_removed_since_are_left_out_and_counted(gallery: ImageIndex) -> None:
    clustering = gallery.cluster(3)
    gone = clustering.paths[:7]
    gallery.remove(gone)
    page = gallery.gallery(clustering).page
    shown = {one.path for view in page.clusters for one in (view.medoid, *view.nearest, *view.borderline)}
    assert shown.isdisjoint(gone)
    assert sum(view.size for view in page.clusters) == 53
    assert ("removed since then", "7 images") in page.facts
    gallery.remove(gallery.paths())
    assert gallery.gallery(clustering).page.clusters == []


def test_one_cluster_has_no_borderline_and_one_image_is_its_own_medoid(index: ImageIndex, tmp_path: Path) -> None:
    draw(tmp_path / "p" / "a.png", 1)
    index.add([tmp_path / "p"])
    (view,) = index.gallery(index.cluster(1)).page.clusters
    assert Path(view.medoid.path).name == "a.png"
    assert (len(view.nearest), list(view.farthest), list(view.borderline)) == (1, [], [])


def test_the_medoid_of_many_images_is_the_best_of_an_even_sample() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((5000, 6)).astype(np.float32) + 1000
    found = medoid(VectorRows.of(vectors))
    places = np.unique(np.linspace(0, 4999, CANDIDATES).astype(int))
    some = vectors[places].astype(np.float64)
    sums = [np.linalg.norm(some - row, axis=1).sum() for row in some]
    assert found == places[int(np.argmin(sums))]
    assert medoid(VectorRows.of(vectors[:1])) == 0


@pytest.fixture
def large(tmp_path: Path) -> Iterator[tuple[Store, Clustering]]:
    """25,000 vectors without images, in 40 clusters, and a clustering of them."""
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((40, 12)) * 3
    vectors = (centres[rng.integers(40, size=25_000)] + rng.standard_normal((25_000, 12))).astype(np.float32)
    settings = {
        "recipe": GRID_RECIPE.to_json(),
        "recipe_digest": GRID_RECIPE.digest,
        "dimension": "12",
        "store": "float32",
    }
    with contextlib.closing(Store.create(str(tmp_path / "large.imgindex"), settings)) as store:
        with store.writing() as writer:
            for number, vector in enumerate(vectors):
                file = FoundFile(str(tmp_path / f"{number}.jpg"), 1, 1)
                writer.put(NewImage(file, number.to_bytes(32, "big"), 8, 8, "JPEG"), vector)
            writer.commit()
        found = kmeans(vectors, 40, seed=1)
        ids = np.arange(1, 25_001)
        clusters = tuple(Cluster(label, label + 1, None, size) for label, size in enumerate(found.sizes))
        run = (found.sizes, found.objective, 1, 1, 25_000, 0.1)
        yield store, Clustering(40, 1, ids, [], found.labels, found.centroids, *run, clusters=clusters)


def test_the_map_of_more_than_20_000_images_shows_an_even_sample(
    large: tuple[Store, Clustering],
) -> None:
    store, clustering = large
    page = cluster_page(store, clustering)
    assert page.map is not None
    assert (len(page.map.ids), page.map.of) == (20_000, 25_000)
    assert sum(view.size for view in page.clusters) == 25_000
    assert len(page.clusters) == 40
    vectors = store.vectors(list(range(1, 25_001)))
    view = page.clusters[7]
    members = np.flatnonzero(clustering.labels == view.label)
    nearest = members[np.linalg.norm(vectors[members] - clustering.centroids[view.label], axis=1).argsort()[:8]]
    assert [one.id for one in view.nearest] == (nearest + 1).tolist()


def test_the_maps_of_a_page_report_their_progress(gallery: ImageIndex) -> None:
    stages: list[str] = []
    gallery.gallery(gallery.cluster(2), maps=("tsne",), on_progress=lambda event: stages.append(event.stage))
    assert stages == ["principal components", "layout by tsne"]
