"""Which clusters are still the same, and keep their ids and names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from colour_kinds import BLUES, GREENS, draw_kinds
from hypothesis import given
from hypothesis import strategies as st

from imgindex import ImageIndex
from imgindex.clustering.tracking import match_clusters
from imgindex.errors import UsageError


@given(st.permutations(range(6)), st.integers(0, 100))
def test_other_numbers_for_the_same_clusters_change_nothing(numbers: list[int], seed: int) -> None:
    labels = np.concatenate([np.arange(6), np.random.default_rng(seed).integers(6, size=50)])
    renamed = np.array(numbers)[labels]
    assert match_clusters(labels, renamed) == {numbers[label]: label for label in range(6)}


def test_a_cluster_that_was_split_goes_on_in_its_larger_part() -> None:
    before = np.repeat([0, 1], [100, 50])
    after = np.repeat([0, 2, 1], [60, 40, 50])
    assert match_clusters(before, after) == {0: 0, 1: 1}


def test_clusters_that_share_little_are_not_the_same() -> None:
    assert match_clusters(np.repeat([0, 1], 50), np.tile([0, 1], 50)) == {0: 0, 1: 1}
    assert match_clusters(np.repeat([0, 1, 2], 60), np.tile([0, 1, 2], 60)) == {}


def test_clusters_are_matched_all_together_and_not_one_by_one() -> None:
    # Cluster 0 of after shares more with 0 of before, but 1 of after shares with that one alone.
    before = np.repeat([0, 1, 0], [50, 45, 60])
    after = np.repeat([0, 0, 1], [50, 45, 60])
    assert match_clusters(before, after) == {1: 0, 0: 1}


def test_no_images_match_nothing() -> None:
    assert match_clusters(np.empty(0, np.int64), np.empty(0, np.int64)) == {}


def test_names_stay_with_their_clusters_whatever_their_labels_become(
    index: ImageIndex, kinds: Path, tmp_path: Path
) -> None:
    first = index.cluster(2)
    assert [cluster.id for cluster in first.clusters] == [1, 2]
    index.clusterings.rename_cluster(0, "reds")
    index.clusterings.rename_cluster(1, "greens")
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


def test_what_came_left_and_is_gone_is_counted(index: ImageIndex, kinds: Path) -> None:
    index.cluster(2)
    one = index.cluster(1)
    assert [(cluster.was, cluster.came, cluster.left) for cluster in one.clusters] == [(0, 8, 0)]
    assert [(cluster.label, cluster.size) for cluster in one.gone] == [(1, 8)]
    assert one.clusters[0].moved == pytest.approx(
        float(np.linalg.norm(one.centroids[0] - index.clusterings[1].centroids[0])), rel=1e-5
    )


def test_a_name_comes_back_with_its_cluster_after_a_clustering_without_it(index: ImageIndex, kinds: Path) -> None:
    index.cluster(2)
    index.clusterings.rename_cluster(1, "greens")
    assert [cluster.name for cluster in index.cluster(1).clusters] == [None]
    assert [cluster.name for cluster in index.cluster(2).clusters] == [None, "greens"]


def test_a_name_can_be_changed_and_removed_but_not_shared_by_two_clusters(index: ImageIndex, kinds: Path) -> None:
    index.cluster(2)
    index.clusterings.rename_cluster(0, "a")
    with pytest.raises(UsageError, match="cluster 0 is called 'a' already"):
        index.clusterings.rename_cluster(1, "a")
    index.clusterings.rename_cluster(0, "b")
    index.clusterings.rename_cluster(1, "a")
    index.clusterings.rename_cluster(0, None)
    assert next(iter(index.clusterings)).names == (None, "a")
    for bad in ("", " ", "a\nb", "x" * 300, "\udcff"):
        with pytest.raises(UsageError):
            index.clusterings.rename_cluster(0, bad)
