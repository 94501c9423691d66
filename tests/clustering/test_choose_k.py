"""Choosing k: the clusters that there are are counted, and one seed gives one set of scores."""

from __future__ import annotations

import numpy as np
import pytest

from imgindex.clustering import choose_k
from imgindex.clustering.choose_k import best_k, default_range, score_each_k
from imgindex.errors import TooFewDistinctVectors, UsageError
from imgindex.results import KScore
from imgindex.vectors.rows import VectorRows


def blobs(kinds: int, each: int, dimension: int = 96, *, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((kinds, dimension))
    rows = centres.repeat(each, axis=0) + 0.4 * generator.standard_normal((kinds * each, dimension))
    return rows.astype(np.float32)


@pytest.mark.parametrize(("kinds", "each"), [(2, 30), (5, 15), (12, 40), (30, 60)])
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
    with pytest.raises(TooFewDistinctVectors, match="3 images are too few for 3 clusters"):
        list(score_each_k(VectorRows.of(blobs(3, 1)), [2, 3]))
    with pytest.raises(UsageError, match="cannot choose between 1 clusters"):
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
