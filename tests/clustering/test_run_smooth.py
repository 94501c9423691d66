"""`cluster` with `smooth`: averages are clustered, and whatever is done with that clustering later uses averages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from colour_kinds import BLUES, GREENS, draw_kinds
from smoothing_reference import all_averaged

from imgindex import ImageIndex, LabelFormat
from imgindex.clustering.kmeans import kmeans

EXTRAS = LabelFormat(id="name", extras=("distance", "margin", "second", "silhouette"))


def averages(index: ImageIndex) -> np.ndarray:
    return all_averaged(index.vectors(), index.ids(), unit=False)


def test_averages_are_clustered_and_the_provenance_says_so(index: ImageIndex, kinds: Path) -> None:
    made = index.cluster(3, seed=7, smooth=True)
    expected = kmeans(averages(index), 3, seed=7)
    np.testing.assert_array_equal(made.labels, expected.labels)
    np.testing.assert_allclose(made.centroids, expected.centroids, atol=1e-6)
    assert made.objective == pytest.approx(expected.objective, rel=1e-4)
    kept = index.clusterings[made.id or 0]
    assert (made.smooth, kept.smooth, kept.options) == (True, True, {"smooth": True})
    plain = index.cluster(3, seed=7)
    assert (plain.smooth, plain.options) == (False, {})


def test_the_same_options_give_the_same_labels_again(index: ImageIndex, kinds: Path) -> None:
    made = index.cluster(range(2, 6), seed=5, smooth=True, balanced=True)
    again = index.cluster(made.k, seed=made.seed, **made.options)
    np.testing.assert_array_equal(again.labels, made.labels)
    np.testing.assert_array_equal(again.centroids, made.centroids)
    with index._store.writing(), ImageIndex.open(index.path) as other:
        in_memory = other.cluster(made.k, seed=made.seed, **made.options)
        np.testing.assert_array_equal(in_memory.labels, made.labels)
        assert in_memory.not_kept


def test_a_condition_limits_what_is_clustered_but_not_the_neighbours(index: ImageIndex, kinds: Path) -> None:
    made = index.cluster(2, smooth=True, where="id % 2 = 0")
    even = index.ids() % 2 == 0
    np.testing.assert_array_equal(made.ids, index.ids()[even])
    np.testing.assert_array_equal(made.labels, kmeans(averages(index)[even], 2).labels)


def test_copies_are_counted_among_the_vectors_themselves(index: ImageIndex, kinds: Path) -> None:
    assert index.cluster(range(2, 4), smooth=True).copies == index.cluster(range(2, 4)).copies


def test_anchors_are_averaged_too(index: ImageIndex, kinds: Path, tmp_path: Path) -> None:
    red, green = kinds / "red" / "red0.png", kinds / "green" / "green0.png"
    made = index.cluster(2, smooth=True, anchors={"reds": red, "greens": [green]}, iterations=1)
    rows = dict(zip(index.paths(), averages(index), strict=True))
    start = np.stack([rows[str(red)], rows[str(green)]])
    np.testing.assert_array_equal(made.labels, kmeans(averages(index), 2, init=start, iterations=1).labels)
    assert {cluster.name for cluster in made.clusters} == {"reds", "greens"}


def test_distances_in_labels_are_those_of_averages(index: ImageIndex, kinds: Path, tmp_path: Path) -> None:
    made = index.cluster(2, smooth=True, label_format=EXTRAS)
    distances = np.linalg.norm(averages(index) - made.centroids[made.labels], axis=1)
    bare = index.cluster(2, smooth=True)
    assert made.fit is not None
    assert bare.fit is None
    np.testing.assert_allclose(made.fit.distances, distances, atol=1e-6)
    computed = index.label_table(bare, EXTRAS)
    index.write_labels(made, tmp_path / "made.csv", EXTRAS)
    index.write_labels(bare, tmp_path / "later.csv", EXTRAS)
    assert (tmp_path / "later.csv").read_bytes() == (tmp_path / "made.csv").read_bytes()
    assert len(computed.rows) == len(index)


def test_new_images_are_assigned_by_their_averages(index: ImageIndex, kinds: Path) -> None:
    made = index.cluster(2, smooth=True)
    draw_kinds(kinds, green=GREENS, blue=BLUES[:1])
    index.add([kinds])
    found = index.clusterings.assign()
    rows = dict(zip(index.ids().tolist(), averages(index), strict=True))
    assert len(found.assigned) == 3
    for one in found.assigned:
        distances = np.linalg.norm(made.centroids - rows[one.id], axis=1)
        assert one.label == distances.argmin()
        assert one.distance == pytest.approx(distances.min(), rel=1e-4)
    assert index.status()["smoothed"]["newer"] == 0


def test_the_page_shows_averages(index: ImageIndex, kinds: Path) -> None:
    made = index.cluster(2, smooth=True)
    page = index.gallery(made).page
    assert ("vectors", "each averaged with its 8 nearest") in page.facts
    distances = np.linalg.norm(averages(index) - made.centroids[made.labels], axis=1)
    for view in page.clusters:
        assert view.listed[-1].distance == pytest.approx(distances[made.labels == view.label].max(), abs=1e-5)
    assert all(name != "vectors" for name, _ in index.gallery(index.cluster(2)).page.facts)
    reranked = index.gallery(index.answers([kinds / "red" / "red0.png"], rerank=True)).page
    assert ("vectors", "each averaged with its 8 nearest") in reranked.facts


def test_duplicates_leaks_and_outliers_use_the_vectors_themselves(index: ImageIndex, kinds: Path) -> None:
    before = index.outliers(n=5), index.duplicates(similar=True, distance=0.1).groups
    leaks = index.leak(kinds / "red", kinds / "green", similar=True, distance=2.0)
    index.cluster(2, smooth=True)
    assert (index.outliers(n=5), index.duplicates(similar=True, distance=0.1).groups) == before
    assert index.leak(kinds / "red", kinds / "green", similar=True, distance=2.0) == leaks
