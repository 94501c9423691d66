"""The groups of a map: clusters, folders and tags, with the number of images of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from imgindex import ImageIndex
from imgindex.errors import ClusteringNotFound
from imgindex.gallery.map import Map
from imgindex.server.map_groups import of_images


@pytest.fixture
def opened(home: Path) -> Iterator[ImageIndex]:
    with ImageIndex.open(home / ".imgindex") as index:
        yield index


def test_clusters_have_their_names_and_a_colour_that_an_edit_does_not_change(opened: ImageIndex) -> None:
    opened.clusterings.rename_cluster(1, "Blue")
    made = opened.clusterings.newest
    groups = of_images(opened, opened.map(), "cluster", None)
    assert groups.of_each.tolist() == made.labels.tolist()
    assert [(one["name"], one["images"], one["label"]) for one in groups.all] == [
        (cluster.name or f"cluster {cluster.label}", cluster.size, cluster.label) for cluster in made.clusters
    ]
    colours = {one["name"]: one["colour"] for one in groups.all}
    opened.clusterings.split(0, 2)
    edited = of_images(opened, opened.map(), "cluster", None)
    assert next(one["colour"] for one in edited.all if one["name"] == "Blue") == colours["Blue"]
    older = of_images(opened, opened.map(), "cluster", 1)
    assert older.all == groups.all
    with pytest.raises(ClusteringNotFound):
        of_images(opened, opened.map(), "cluster", 9)
    for id in (2, 1):
        opened.clusterings.delete(id)
    none = of_images(opened, opened.map(), "cluster", None)
    assert (set(none.of_each.tolist()), none.all) == ({-1}, [])


def test_folders_are_shown_without_what_all_have(opened: ImageIndex) -> None:
    groups = of_images(opened, opened.map(), "folder", None)
    assert [(one["name"], one["images"]) for one in groups.all] == [("photos/b", 7), ("photos/a", 6)]
    for path, group in zip(opened.map().paths, groups.of_each.tolist(), strict=True):
        assert Path(path).parent.name == groups.all[group]["name"][-1]


def test_folders_of_several_sources_and_more_than_can_be_told_apart(opened: ImageIndex) -> None:
    paths = ["s3://bucket/x/1.jpg", "/data/y/2.jpg", *(f"/data/{number}/3.jpg" for number in range(80))]
    found = Map(np.arange(82), paths, np.zeros((82, 2), np.float32), "pca", 42)
    groups = of_images(opened, found, "folder", None)
    assert [one["name"] for one in groups.all[:2]] == ["s3://bucket/x", "/data/y"]
    assert (len(groups.all), groups.of_each.tolist().count(-1)) == (64, 18)


def test_an_image_is_in_the_group_of_its_rarest_tag(opened: ImageIndex) -> None:
    opened.change_tags([1, 2, 3], add="it's")
    opened.change_tags([2], add="rare")
    groups = of_images(opened, opened.map(), "tag", None)
    assert groups.all == [{"name": "it's", "images": 2, "colour": 0}, {"name": "rare", "images": 1, "colour": 1}]
    assert groups.of_each.tolist()[:4] == [0, 1, 0, -1]
