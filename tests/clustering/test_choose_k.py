"""Choosing k: the clusters that there are are counted, and one seed gives one set of scores."""

from __future__ import annotations

import numpy as np
import pytest

from imgindex.clustering import choose_k
from imgindex.clustering.choose_k import best_k, default_range, score_each_k, share_of_copies
from imgindex.errors import TooFewDistinctVectors, UsageError
from imgindex.results import KScore, knee
from imgindex.vectors.rows import VectorRows


def blobs(kinds: int, each: int, dimension: int = 96, *, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((kinds, dimension))
    rows = centres.repeat(each, axis=0) + 0.4 * generator.standard_normal((kinds * each, dimension))
    return rows.astype(np.float32)


@pytest.mark.parametrize(("kinds", "each"), [(2, 30), (5, 15), (12, 20), (30, 20)])
def test_the_true_number_of_clusters_is_found(kinds: int, each: int) -> None:
    points = VectorRows.of(blobs(kinds, each))
    scores = list(score_each_k(points, default_range(len(points)), seed=1))
    assert best_k(scores) == kinds
    best = next(score for score in scores if score.k == kinds)
    assert best.stability > 0.99
    assert best.silhouette > 0.3
    assert 0 < best.objective < 1


def test_objectives_fall_as_k_grows() -> None:
    objectives = [score.objective for score in score_each_k(VectorRows.of(blobs(5, 20)), range(2, 12))]
    assert objectives == sorted(objectives, reverse=True)


def test_one_seed_gives_one_curve() -> None:
    points = VectorRows.of(blobs(4, 20))
    assert list(score_each_k(points, range(2, 8), seed=3)) == list(score_each_k(points, range(2, 8), seed=3))


def test_few_images_leave_little_to_choose_from() -> None:
    assert list(default_range(4)) == [2]
    assert default_range(75) == range(2, 26)
    assert default_range(10**6) == range(2, 41)
    with pytest.raises(TooFewDistinctVectors, match="k must be less than the number of images, 3, not 3"):
        list(score_each_k(VectorRows.of(blobs(3, 1)), [2, 3]))
    with pytest.raises(UsageError, match="k is 1: the silhouette compares 2 clusters or more"):
        list(score_each_k(VectorRows.of(blobs(3, 1)), [1]))


def test_equal_images_raise_no_warning() -> None:
    scores = list(score_each_k(VectorRows.of(np.ones((12, 5), np.float32)), [2, 3]))
    assert [score.silhouette for score in scores] == [0.0, 0.0]


def test_of_several_that_are_as_good_the_fewest_clusters_are_chosen() -> None:
    assert best_k([KScore(2, 0.9, 0.1, 1.0), KScore(3, 0.5, 0.3, 0.5), KScore(4, 0.4, 0.3, 0.9)]) == 3


def test_the_rows_of_a_large_collection_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose_k, "CLUSTERED", 200)
    monkeypatch.setattr(choose_k, "COMPARED", 50)
    assert best_k(list(score_each_k(VectorRows.of(blobs(5, 400)), range(2, 10)))) == 5


@pytest.mark.parametrize("kinds", [2, 5, 12])
def test_the_knee_of_clear_clusters_is_their_number(kinds: int) -> None:
    points = VectorRows.of(blobs(kinds, 20))
    assert knee(list(score_each_k(points, default_range(len(points)), seed=1))) == kinds


def test_copies_are_counted_exact_and_near_ones() -> None:
    rows = blobs(5, 40)
    numbers = np.arange(200)
    assert share_of_copies(VectorRows.of(rows), numbers) == 0
    near = rows.copy()
    near[100:150] = rows[:50] + 0.01
    assert share_of_copies(VectorRows.of(near), numbers) == 0.5
    assert share_of_copies(VectorRows.of(rows), numbers % 160) == 0.4
    assert share_of_copies(VectorRows.of(np.ones((12, 5), np.float32)), numbers[:12]) == 1
    assert share_of_copies(VectorRows.of(rows[:1]), numbers[:1]) == 0


def test_near_copies_in_a_large_collection_are_counted_on_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose_k, "COMPARED", 50)
    rows = blobs(5, 200)
    rows[::2] = rows[0]
    assert 0.4 < share_of_copies(VectorRows.of(rows), np.arange(1000)) <= 1
