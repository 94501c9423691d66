"""Clusterings that are kept: they come back as they were, and clusters that are still the same keep ids and names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from conftest import GRID_RECIPE, GridMean, draw

from imgindex import ImageIndex
from imgindex.answers.clusterings import Form
from imgindex.errors import ClusteringNotFound, UsageError
from imgindex.storage import clusterings
from imgindex.storage.clusterings import Head, Kept, Members

REDS, GREENS, BLUES = (
    [tuple(200 if at == channel else shade for at in range(3)) for shade in range(0, 40, 4)] for channel in range(3)
)


def draw_kinds(folder: Path, **kinds: list[tuple[int, int, int]]) -> None:
    for kind, colours in kinds.items():
        for number, colour in enumerate(colours):
            draw(folder / kind / f"{kind}{number}.png", colour)


@pytest.fixture
def kinds(index: ImageIndex, tmp_path: Path) -> Path:
    """An index of ten reds and eight greens, and their folder."""
    draw_kinds(tmp_path / "kinds", red=REDS, green=GREENS[:8])
    index.add([tmp_path / "kinds"])
    return tmp_path / "kinds"


def test_a_clustering_comes_back_as_it_was_made(index: ImageIndex, kinds: Path) -> None:
    made = index.cluster(2, seed=7, form=Form(extras=("distance", "silhouette")))
    found = index.clustering(made.id)
    for name in ("k", "seed", "objective", "restart_objectives", "converged", "sizes", "versions", "made_at", "paths"):
        assert getattr(found, name) == getattr(made, name), name
    for name in ("ids", "labels", "centroids"):
        np.testing.assert_array_equal(getattr(found, name), getattr(made, name))
    np.testing.assert_array_equal(found.fit.silhouettes, made.fit.silhouettes)
    assert found.recipe == "grid"
    assert found.trained_on == 18


def test_a_clustering_remembers_images_that_are_gone_or_have_moved(
    index: ImageIndex, kinds: Path, tmp_path: Path
) -> None:
    made = index.cluster(2)
    index.write_labels(made, tmp_path / "before.csv")
    os.rename(kinds / "red/red0.png", kinds / "red/other name.png")
    (kinds / "red/red1.png").unlink()
    index.add([kinds])
    index.remove([kinds / "green"])
    index.compact()
    index.write_labels(index.clustering(made.id), tmp_path / "after.csv")
    assert (tmp_path / "before.csv").read_bytes() == (tmp_path / "after.csv").read_bytes()


def test_names_stay_with_their_clusters_whatever_their_labels_become(
    index: ImageIndex, kinds: Path, tmp_path: Path
) -> None:
    first = index.cluster(2)
    assert [cluster.id for cluster in first.clusters] == [1, 2]
    index.label(0, "reds")
    index.label(1, "greens")
    draw_kinds(tmp_path / "kinds", green=GREENS, blue=BLUES[:3])
    for number in range(4):
        (kinds / f"red/red{number}.png").unlink()
    index.add([kinds])
    second = index.cluster(3)
    assert [cluster.name for cluster in second.clusters] == ["greens", "reds", None]
    assert [cluster.id for cluster in second.clusters] == [2, 1, 3]
    assert [cluster.was for cluster in second.clusters] == [1, 0, None]
    assert second.since == first.id
    assert set(second.to_frame()["name"]) == {"greens", "reds", ""}


def test_what_came_left_and_is_gone_is_told(index: ImageIndex, kinds: Path) -> None:
    index.cluster(2)
    one = index.cluster(1)
    assert [(cluster.was, cluster.came, cluster.left) for cluster in one.clusters] == [(0, 8, 0)]
    assert [(cluster.label, cluster.size) for cluster in one.gone] == [(1, 8)]
    assert one.clusters[0].moved == pytest.approx(
        float(np.linalg.norm(one.centroids[0] - index.clustering(1).centroids[0])), rel=1e-5
    )


def test_a_name_comes_back_with_its_cluster_after_a_clustering_without_it(index: ImageIndex, kinds: Path) -> None:
    index.cluster(2)
    index.label(1, "greens")
    assert [cluster.name for cluster in index.cluster(1).clusters] == [None]
    assert [cluster.name for cluster in index.cluster(2).clusters] == [None, "greens"]


def test_a_name_can_be_changed_and_taken_away_but_no_two_clusters_share_it(index: ImageIndex, kinds: Path) -> None:
    index.cluster(2)
    index.label(0, "a")
    with pytest.raises(UsageError, match="cluster 0 is called 'a' already"):
        index.label(1, "a")
    index.label(0, "b")
    index.label(1, "a")
    index.label(0, None)
    assert index.clusterings()[0].names == (None, "a")
    for bad in ("", " ", "a\nb", "x" * 300, "\udcff"):
        with pytest.raises(UsageError):
            index.label(0, bad)


def test_anchors_name_the_clusters_that_grew_from_them(index: ImageIndex, kinds: Path, tmp_path: Path) -> None:
    draw(tmp_path / "new.png", (0, 190, 0))
    found = index.cluster(anchors={"leaves": [tmp_path / "new.png"], "roses": [kinds / "red/red3.png"]})
    assert [(cluster.name, cluster.size) for cluster in found.clusters] == [("roses", 10), ("leaves", 8)]
    assert all("red" in path for path, label in zip(found.paths, found.labels, strict=True) if label == 0)
    again = index.cluster(3, anchors={"leaves": [kinds / "green/green1.png"]})
    (leaves,) = [cluster for cluster in again.clusters if cluster.name == "leaves"]
    assert leaves.id == found.clusters[1].id
    with pytest.raises(UsageError, match="2 anchors do not go into 1"):
        index.cluster(1, anchors={"a": [kinds / "red/red3.png"], "b": [kinds / "red/red4.png"]})
    with pytest.raises(UsageError, match="has no images"):
        index.cluster(2, anchors={"a": []})


def test_even_and_small_clusters_are_even_and_small(index: ImageIndex, kinds: Path) -> None:
    assert index.cluster(2, balanced=True).sizes == (9, 9)
    assert max(index.cluster(4, max_size=5).sizes) <= 5
    with pytest.raises(UsageError, match="not both"):
        index.cluster(2, balanced=True, max_size=9)


def test_a_forgotten_clustering_is_gone_and_its_id_is_never_given_again(index: ImageIndex, kinds: Path) -> None:
    index.cluster(2)
    index.label(0, "reds")
    index.forget(1)
    with pytest.raises(ClusteringNotFound):
        index.clustering()
    found = index.cluster(2)
    assert found.id == 2
    with pytest.raises(ClusteringNotFound):
        index.forget(7)


def test_an_index_that_is_being_written_to_answers_and_says_that_it_did_not_keep_it(
    index: ImageIndex, kinds: Path
) -> None:
    kept = index.cluster(2)
    index.label(1, "greens")
    with index._store.writing():
        with ImageIndex.open(index.path) as other:
            found = other.cluster(2)
        assert found.id is None
        assert "another process" in found.not_kept
        assert [cluster.name for cluster in found.clusters] == [None, "greens"]
    assert [one.id for one in index.clusterings()] == [kept.id]


def test_an_unknown_option_is_a_mistake_in_the_call(index: ImageIndex, kinds: Path) -> None:
    with pytest.raises(TypeError, match="no option 'restart'"):
        index.cluster(2, restart=3)  # type: ignore[call-arg]


def test_new_images_go_into_old_clusters_and_the_old_ones_stay(index: ImageIndex, kinds: Path, tmp_path: Path) -> None:
    made = index.cluster(2)
    index.label(1, "greens")
    draw_kinds(kinds, green=GREENS, blue=BLUES[:1])
    draw(kinds / "red/red9.png", (0, 222, 0))  # changed: it is a new one now
    index.add([kinds])
    found = index.assign()
    assert {Path(one.path).name: one.name for one in found.assigned}.items() >= {
        "green8.png": "greens", "green9.png": "greens", "red9.png": "greens"
    }.items()  # fmt: skip
    assert len(found.assigned) == 4
    vectors = dict(zip(index.ids().tolist(), index.vectors(), strict=True))
    for one in found.assigned:
        distances = np.linalg.norm(made.centroids - vectors[one.id], axis=1)
        assert one.label == distances.argmin()
        assert one.distance == pytest.approx(distances.min(), rel=1e-4)
        assert one.margin == pytest.approx(distances.max() - distances.min(), rel=1e-3)
    before = dict(zip(made.ids.tolist(), made.labels.tolist(), strict=True))
    after = dict(zip(found.clustering.ids.tolist(), found.clustering.labels.tolist(), strict=True))
    changed = {id for id in before if before[id] != after[id]}
    assert [Path(dict(zip(made.ids.tolist(), made.paths, strict=True))[id]).name for id in changed] == ["red9.png"]
    assert found.clustering.sizes == (np.bincount(list(after.values())).tolist()[0], sum(after.values()))
    assert index.assign().assigned == ()
    np.testing.assert_array_equal(index.clustering().labels, made.labels)


def test_without_a_clustering_there_is_nothing_to_assign_to(index: ImageIndex, kinds: Path) -> None:
    with pytest.raises(ClusteringNotFound, match="no clustering is kept"):
        index.assign()


def test_many_images_are_kept_and_read_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = np.cumsum(rng.integers(1, 9, 20_000))
    members = Members(ids, rng.integers(50, size=20_000), rng.integers(2**32, size=20_000))
    with ImageIndex.create(tmp_path / "it", recipe=GRID_RECIPE) as index:
        index.embedder = GridMean()
        paths = [str(tmp_path / f"a,'\n\udcff{number}.jpg") for number in range(20_000)]
        kept = Kept(Head(0, "", {"k": 50}, tuple(range(1, 51))), rng.random((50, 12), np.float32), members, paths)
        with index._store.writing() as writer, writer.catalogue.atomic():
            head = clusterings.keep(writer.catalogue, kept)
        found = clusterings.read(index._store.catalogue, head.id)
        assert found.paths == paths
        for name in ("ids", "labels", "crcs"):
            np.testing.assert_array_equal(getattr(found.members, name), getattr(members, name))
        np.testing.assert_array_equal(found.centroids, kept.centroids)
