"""Which clusters are still the same."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from imgindex.analysis.anchors import starts
from imgindex.analysis.matching import partners
from imgindex.analysis.points import Points


@given(st.permutations(range(6)), st.integers(0, 100))
def test_other_numbers_for_the_same_clusters_change_nothing(numbers: list[int], seed: int) -> None:
    labels = np.concatenate([np.arange(6), np.random.default_rng(seed).integers(6, size=50)])
    renamed = np.array(numbers)[labels]
    assert partners(labels, renamed) == {numbers[label]: label for label in range(6)}


def test_a_cluster_that_was_split_goes_on_in_its_larger_part() -> None:
    before = np.repeat([0, 1], [100, 50])
    after = np.repeat([0, 2, 1], [60, 40, 50])
    assert partners(before, after) == {0: 0, 1: 1}


def test_clusters_that_share_little_are_not_the_same() -> None:
    assert partners(np.repeat([0, 1], 50), np.tile([0, 1], 50)) == {0: 0, 1: 1}
    assert partners(np.repeat([0, 1, 2], 60), np.tile([0, 1, 2], 60)) == {}


def test_all_clusters_together_and_not_each_for_itself_find_their_partners() -> None:
    # Cluster 0 of after shares more with 0 of before, but 1 of after shares with that one alone.
    before = np.repeat([0, 1, 0], [50, 45, 60])
    after = np.repeat([0, 0, 1], [50, 45, 60])
    assert partners(before, after) == {1: 0, 0: 1}


def test_no_images_have_no_partners() -> None:
    assert partners(np.empty(0, np.int64), np.empty(0, np.int64)) == {}


def test_k_means_begins_at_the_means_of_examples_and_then_far_from_them() -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(at, 0.1, (500, 2)) for at in ((0, 0), (9, 0), (0, 9))]).astype(np.float32)
    found = starts(Points.of(rows), [rows[:4], rows[500:501]], 3, seed=1)
    np.testing.assert_allclose(found[0], rows[:4].mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(found[1], rows[500])
    assert np.linalg.norm(found[2] - (0, 9)) < 1
