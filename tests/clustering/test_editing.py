"""Merging, splitting and moving: what an edit touches changes, what it does not stays, and it can be undone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_kinds import BLUES, GREENS, REDS, draw_kinds
from pictures import draw

from imgindex import ImageIndex, LabelFormat
from imgindex.errors import ClusteringNotFound, ImgindexError, IndexLocked, PathNotFound, UsageError
from imgindex.results import Clustering

Ids = dict[str, frozenset[str]]


@pytest.fixture
def three(index: ImageIndex, kinds: Path, tmp_path: Path) -> Clustering:
    """A clustering of ten reds, eight greens and six blues, which are called so."""
    draw_kinds(tmp_path / "kinds", blue=BLUES[:6])
    index.add(kinds)
    made = index.cluster(3)
    assert made.sizes == (10, 8, 6)
    for label, name in enumerate(("reds", "greens", "blues")):
        index.clusterings.rename_cluster(label, name)
    return index.clusterings.newest


def reds(index: ImageIndex) -> list[int]:
    return [image.id for image in index.images(where="name like 'red%'")]


def names_of(found: Clustering) -> dict[str | None, int]:
    return {cluster.name: cluster.size for cluster in found.clusters}


def members(found: Clustering) -> dict[int, set[str]]:
    """The names of the images of each cluster, by its lasting id."""
    ids = [cluster.id for cluster in found.clusters]
    return {
        id: {Path(path).stem for path, own in zip(found.paths, found.labels.tolist(), strict=True) if own == label}
        for label, id in enumerate(ids)
    }


def same(a: Clustering, b: Clustering) -> bool:
    """Whether two clusterings are the same one, to the byte."""
    arrays = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("ids", "labels", "centroids"))
    values = all(getattr(a, name) == getattr(b, name) for name in ("id", "clusters", "objective", "options", "made_at"))
    return arrays and values


def test_merged_clusters_become_one_and_the_others_stay(index: ImageIndex, three: Clustering) -> None:
    before = members(three)
    found = index.clusterings.merge([2, 1])
    reds, greens, blues = (cluster.id for cluster in three.clusters)
    assert members(found) == {blues: before[blues] | before[greens], reds: before[reds]}
    # The largest cluster is the first again.
    assert [(cluster.name, cluster.size) for cluster in found.clusters] == [("blues", 14), ("reds", 10)]
    assert [(cluster.name, cluster.size) for cluster in found.gone] == [("greens", 8)]
    assert (found.id, found.since, found.edited_from) == (2, 1, 1)
    assert found.options["edit"] == {"of": 1, "kind": "merge", "labels": [2, 1]}
    assert same(index.clusterings[1], three)
    assert same(index.clusterings.newest, found)
    assert [summary.edited_from for summary in index.clusterings] == [None, 1]


def test_a_merged_cluster_has_the_first_name(index: ImageIndex, three: Clustering) -> None:
    index.clusterings.rename_cluster(0, None)
    assert names_of(index.clusterings.merge(["greens", "blues"])) == {"greens": 14, None: 10}
    merged = index.clusterings.merge([1, 0])
    assert names_of(merged) == {"greens": 24}


def test_the_centroids_of_an_edit_are_the_means_of_its_images(index: ImageIndex, three: Clustering) -> None:
    vectors = index.vectors()
    for found in (
        index.clusterings.merge([0, 1]),
        index.clusterings.split(0, 3),
        index.clusterings.move(reds(index)[:2], "blues"),
    ):
        for label in range(found.k):
            mean = vectors[found.labels == label].mean(axis=0)
            assert found.centroids[label] == pytest.approx(mean, abs=1e-5)
        distances = np.linalg.norm(vectors - found.centroids[found.labels], axis=1)
        assert found.objective == pytest.approx(float((distances**2).sum()), rel=1e-4)


def test_a_split_cluster_goes_on_in_its_larger_part(index: ImageIndex, three: Clustering) -> None:
    merged = index.clusterings.merge(["reds", "greens"])
    found = index.clusterings.split("reds")
    reds, _, blues = (cluster.id for cluster in three.clusters)
    new = next(cluster.id for cluster in found.clusters if cluster.id not in (reds, blues))
    before = members(three)
    assert members(found) == {reds: before[reds], blues: before[blues], new: members(three)[three.clusters[1].id]}
    assert names_of(found) == {"reds": 10, None: 8, "blues": 6}
    assert found.options["edit"] == {"of": merged.id, "kind": "split", "labels": [0], "k": 2, "seed": 42}
    assert new not in [cluster.id for cluster in three.clusters]


def test_anchors_name_the_parts_of_a_split(index: ImageIndex, three: Clustering, kinds: Path, tmp_path: Path) -> None:
    draw(tmp_path / "example.png", BLUES[7])  # an example need not be in the index
    one = index.clusterings.merge([0, 1, 2])
    found = index.clusterings.split(
        0, anchors={"sea": tmp_path / "example.png", "greens": [kinds / "green/green1.png", kinds / "green/green2.png"]}
    )
    assert set(names_of(found)) == {"sea", "greens"}
    parts = {name: members(found)[id] for name, id in ((one.name, one.id) for one in found.clusters)}
    assert {f"blue{number}" for number in range(6)} <= parts["sea"]
    assert {f"green{number}" for number in range(8)} <= parts["greens"]
    # The name of an older cluster brings its id back; no part is the cluster that was split.
    assert next(cluster.id for cluster in found.clusters if cluster.name == "greens") == three.clusters[1].id
    assert one.clusters[0].id not in members(found)
    more = index.clusterings.split("sea", 3, anchors={"sea": kinds / "blue/blue3.png"})
    assert more.k == 4
    assert [cluster.id for cluster in more.clusters if cluster.name == "sea"] == [
        cluster.id for cluster in found.clusters if cluster.name == "sea"
    ]


def test_a_split_is_the_same_with_the_same_seed(index: ImageIndex, three: Clustering) -> None:
    first = index.clusterings.split(0, 3, seed=5)
    index.clusterings.undo()
    assert np.array_equal(index.clusterings.split(0, 3, seed=5).labels, first.labels)


def test_images_move_by_their_paths_folders_or_ids(index: ImageIndex, three: Clustering, kinds: Path) -> None:
    ids = dict(zip(index.paths(), index.ids().tolist(), strict=True))
    one, other = (str(kinds / f"red/red{number}.png") for number in (3, 4))
    for images in ([one, other], [ids[one], ids[other]], [one, ids[other]], np.array([ids[one], ids[other]])):
        found = index.clusterings.move(images, "blues", clustering=three.id)
        assert names_of(found) == {"reds": 8, "greens": 8, "blues": 8}
        assert [one.path for one in index.clusterings.diff(three.id or 0, found.id or 0).moved] == [one, other]
        assert [(cluster.name, cluster.came, cluster.left) for cluster in found.clusters] == [
            ("reds", 0, 2), ("greens", 0, 0), ("blues", 2, 0),
        ]  # fmt: skip
        assert found.options["edit"] == {"of": 1, "kind": "move", "labels": [2], "images": 2}
    index.add(kinds)
    (kinds / "some").mkdir()
    for number in range(2):
        (kinds / f"green/green{number}.png").rename(kinds / f"some/green{number}.png")
    index.add(kinds)
    assert names_of(index.clusterings.move(kinds / "some", "reds", clustering=three.id)) == {
        "reds": 12, "greens": 6, "blues": 6,
    }  # fmt: skip


def test_what_an_edit_does_not_touch_keeps_its_numbers(index: ImageIndex, three: Clustering) -> None:
    for found in (index.clusterings.move(reds(index)[:1], "greens"), index.clusterings.split("greens", 2)):
        label = next(cluster.label for cluster in found.clusters if cluster.name == "blues")
        assert np.array_equal(found.centroids[label], three.centroids[2])
        cluster = found.clusters[label]
        assert (cluster.id, cluster.came, cluster.left, cluster.moved) == (three.clusters[2].id, 0, 0, 0.0)


def test_edits_are_undone_one_by_one(index: ImageIndex, three: Clustering) -> None:
    merged = index.clusterings.merge([1, 2])
    split = index.clusterings.split(0, 3)
    with pytest.raises(UsageError, match="clustering 3 was made from clustering 2"):
        index.clusterings.undo(clustering=merged.id)
    assert index.clusterings.undo().id == merged.id
    with pytest.raises(ClusteringNotFound):
        _ = index.clusterings[split.id or 0]
    assert same(index.clusterings.undo(), three)
    assert [summary.id for summary in index.clusterings] == [three.id]
    with pytest.raises(UsageError, match="clustering 1 was not made by an edit"):
        index.clusterings.undo()
    # The cluster of a new part is gone with it.
    assert [cluster.id for cluster in index.clusterings.split(0).clusters][-1] > 5


def test_an_edit_whose_source_was_deleted_cannot_be_undone(index: ImageIndex, three: Clustering) -> None:
    index.clusterings.merge([1, 2])
    index.clusterings.delete(1)
    with pytest.raises(ClusteringNotFound, match="clustering 1, which clustering 2 was made from, was deleted"):
        index.clusterings.undo()
    assert len(index.clusterings) == 1


def test_an_older_clustering_is_edited_and_becomes_the_newest(index: ImageIndex, three: Clustering) -> None:
    index.cluster(2)
    found = index.clusterings.merge(["greens", "blues"], clustering=three.id)
    assert (found.id, found.edited_from, found.since) == (3, 1, 1)
    assert index.clusterings.newest.id == 3
    assert len(index.ids(where="cluster_name = 'greens'")) == 14
    assert index.clusterings.undo().id == 1
    assert index.clusterings.newest.id == 2


def test_assigned_images_are_edited_too_and_those_that_are_gone_are_left_out(
    index: ImageIndex, three: Clustering, kinds: Path
) -> None:
    draw(kinds / "blue/new.png", BLUES[8])
    for number in range(10):
        (kinds / f"red/red{number}.png").unlink()
    index.add(kinds)
    index.clusterings.assign()
    found = index.clusterings.move(kinds / "blue/new.png", "greens")
    assert names_of(found) == {"greens": 9, "blues": 6}
    assert found.trained_on == len(found.ids) == 15
    assert index.clusterings.assign().assigned == ()


def test_the_format_of_the_labels_stays(index: ImageIndex, kinds: Path) -> None:
    like = "file,class,x\n" + "".join(f"{Path(path).name},0,0\n" for path in reversed(index.paths()))
    label_format = LabelFormat(id="name", like=like, extras=("distance", "name"))
    index.cluster(2, label_format=label_format)
    index.clusterings.rename_cluster(0, "reds")
    found = index.clusterings.move(reds(index)[:1], 1)
    table = index.label_table(found)
    assert table.columns == ["file", "class", "x", "distance", "name"]
    assert [row["file"] for row in table.rows] == [Path(path).name for path in reversed(index.paths())]
    assert found.fit is not None
    draw(kinds / "red/new.png", REDS[9])
    index.add(kinds)
    index.clusterings.assign()
    # The sample lacks the new image.
    assert (
        index.label_table(
            index.clusterings.move(index.clusterings.newest.ids[index.clusterings.newest.labels == 1][:2], 0)
        ).columns[0]
        == "ImageID"
    )


def test_averaged_vectors_are_edited_as_averages(index: ImageIndex, kinds: Path) -> None:
    index.cluster(2, smooth=True)
    found = index.clusterings.split(0, anchors={"a": kinds / "red/red0.png", "b": kinds / "red/red9.png"})
    assert found.smooth
    fitted = index.clusterings.with_fit(found).fit
    assert fitted is not None
    assert found.objective == pytest.approx(float((fitted.distances.astype(np.float64) ** 2).sum()), rel=1e-4)
    assert index.clusterings.merge([0, 1]).smooth


Do = Callable[[Any, ImageIndex], object]
WRONG: dict[str, tuple[Do, type[ImgindexError], str, str]] = {
    "one": (lambda found, index: found.merge([1]), UsageError, "one cluster alone", "two clusters or more"),
    "none": (lambda found, index: found.merge([]), UsageError, "one cluster alone", "two clusters or more"),
    "text": (lambda found, index: found.merge("reds"), UsageError, "clusters must be an iterable", ""),
    "twice": (lambda found, index: found.merge([0, "reds"]), UsageError, "cluster 0 is given twice", "different"),
    "label": (lambda found, index: found.merge([0, 3]), UsageError, "has no label 3", "labels are 0 to 2"),
    "negative": (lambda found, index: found.split(-1), UsageError, "has no label -1", "labels are 0 to 2"),
    "name": (lambda found, index: found.split("Reds"), UsageError, "no cluster called 'Reds'", "'reds', 'greens'"),
    "kind": (lambda found, index: found.merge([0, True]), UsageError, "its label or its name, not by True", ""),
    "k is 1": (lambda found, index: found.split(0, 1), UsageError, "cannot be split into 1", "2 or more"),
    "k": (lambda found, index: found.split(2, 7), UsageError, "has 6 images, and cannot be split into 7", "at most 6"),
    "anchors": (
        lambda found, index: found.split(0, 2, anchors=dict.fromkeys("abc", index.paths()[0])),
        UsageError,
        "less than the number of anchors",
        "k=3",
    ),
    "one anchor": (
        lambda found, index: found.split(0, anchors={"a": index.paths()[0]}), UsageError, "split into 1", "two anchors",
    ),
    "a name that is taken": (
        lambda found, index: found.split(0, 2, anchors={"blues": index.paths()[0]}),
        UsageError,
        "cluster 2 is called 'blues' already",
        "another name",
    ),
    "no name": (
        lambda found, index: found.split(0, 2, anchors={" ": index.paths()[0]}), UsageError, "cannot be a name", "",
    ),
    "no image": (lambda found, index: found.move([], 0), UsageError, "no image is given", "paths or ids"),
    "a path": (lambda found, index: found.move("none.png", 0), PathNotFound, "no image at", "imgindex list"),
    "an id": (lambda found, index: found.move(99, 0), PathNotFound, "no image with the id 99", "imgindex list"),
    "at home": (lambda found, index: found.move(reds(index)[:2], 0), UsageError, "has all of these", "another"),
    "all": (
        lambda found, index: found.move(reds(index), 2),
        UsageError,
        "cluster 0 would be left without images",
        "clusterings merge 2 0",
    ),
    "a clustering": (lambda found, index: found.merge([0, 1], clustering=9), ClusteringNotFound, "clustering 9", ""),
    "undo": (lambda found, index: found.undo(clustering=9), ClusteringNotFound, "clustering 9", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_refused_with_a_way_out_and_changes_nothing(
    index: ImageIndex, three: Clustering, case: str
) -> None:
    do, error, message, hint = WRONG[case]
    with pytest.raises(error, match=message) as caught:
        do(index.clusterings, index)
    assert hint in caught.value.hint
    assert [summary.id for summary in index.clusterings] == [1]
    assert same(index.clusterings.newest, three)


def test_an_image_that_a_clustering_lacks_has_to_be_assigned_first(
    index: ImageIndex, three: Clustering, kinds: Path
) -> None:
    draw(kinds / "blue/new.png", GREENS[9])
    index.add(kinds)
    with pytest.raises(UsageError, match=r"clustering 1 does not have .*new\.png") as caught:
        index.clusterings.move(kinds / "blue/new.png", 0)
    assert "imgindex clusterings assign 1" in caught.value.hint


def test_a_clustering_whose_images_are_all_gone_is_not_edited(
    index: ImageIndex, three: Clustering, kinds: Path
) -> None:
    index.remove(kinds)
    with pytest.raises(UsageError, match="none of the images of clustering 1 any more"):
        index.clusterings.merge([0, 1])
    assert len(index.clusterings) == 1


def test_a_cluster_without_images_ends_with_the_edit(index: ImageIndex, three: Clustering, kinds: Path) -> None:
    index.remove(kinds / "blue")
    found = index.clusterings.move(reds(index)[:1], "greens")
    assert names_of(found) == {"greens": 9, "reds": 9}
    assert index.clusterings.undo().id == three.id


def test_images_that_are_all_the_same_cannot_be_split(index: ImageIndex, tmp_path: Path) -> None:
    for number in range(4):
        draw(tmp_path / f"same/{number}.png", REDS[0])
    draw(tmp_path / "same/other.png", GREENS[0])
    index.add(tmp_path / "same")
    index.cluster(2)
    with pytest.raises(ImgindexError, match="distinct vectors"):
        index.clusterings.split(0)


def test_an_edit_needs_the_lock(index: ImageIndex, three: Clustering) -> None:
    with ImageIndex.open(index.path) as other, other._store.writing(wait=lambda: False):
        for edit in (lambda: index.clusterings.merge([0, 1]), index.clusterings.undo):
            with pytest.raises(IndexLocked):
                edit()
