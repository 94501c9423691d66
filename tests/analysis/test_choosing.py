"""Choosing k: clusters that are there are counted, silhouettes are true ones, and one seed gives one curve."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from imgindex.analysis import choosing
from imgindex.analysis.choosing import auto_range, choose, curve, silhouette
from imgindex.analysis.points import Points
from imgindex.answers.clusterings import KScore
from imgindex.errors import TooFewDistinctVectors, UsageError


def blobs(kinds: int, each: int, dimension: int = 96, *, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((kinds, dimension))
    rows = centres.repeat(each, axis=0) + 0.4 * generator.standard_normal((kinds * each, dimension))
    return rows.astype(np.float32)


@pytest.mark.parametrize(("kinds", "each"), [(2, 30), (5, 15), (12, 40), (30, 60)])
def test_as_many_clusters_are_found_as_there_are(kinds: int, each: int) -> None:
    points = Points.of(blobs(kinds, each))
    scores = list(curve(points, auto_range(len(points)), seed=1))
    assert choose(scores) == kinds
    best = next(score for score in scores if score.k == kinds)
    assert best.stability > 0.99
    assert best.silhouette > 0.3
    assert 0 < best.objective < 1


def test_objectives_fall_as_k_grows() -> None:
    objectives = [score.objective for score in curve(Points.of(blobs(5, 20)), range(2, 12))]
    assert objectives == sorted(objectives, reverse=True)


def test_one_seed_gives_one_curve() -> None:
    points = Points.of(blobs(4, 20))
    assert list(curve(points, range(2, 8), seed=3)) == list(curve(points, range(2, 8), seed=3))


@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 1, 1, 2, 2], [0, 1, 1, 1, 1, 1, 1, 1], [3, 3, 7, 7, 7, 3, 9, 3]])
def test_silhouettes_are_those_of_scikit_learn(labels: list[int]) -> None:
    rows = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    distances = np.linalg.norm(rows[:, None] - rows, axis=2)
    assert silhouette(distances, np.array(labels)) == pytest.approx(silhouette_score(rows, labels), abs=1e-6)


def test_one_cluster_has_no_silhouette() -> None:
    assert silhouette(np.ones((3, 3), np.float32), np.zeros(3, np.int64)) == 0.0


def test_few_images_leave_little_to_choose_from() -> None:
    assert list(auto_range(4)) == [2]
    assert auto_range(75) == range(2, 26)
    assert auto_range(10**6) == range(2, 41)
    with pytest.raises(TooFewDistinctVectors, match="3 images cannot be told apart into 3 clusters"):
        list(curve(Points.of(blobs(3, 1)), [2, 3]))
    with pytest.raises(UsageError, match="1 is no number of clusters"):
        list(curve(Points.of(blobs(3, 1)), [1]))


def test_images_that_are_all_the_same_make_no_warning() -> None:
    scores = list(curve(Points.of(np.ones((12, 5), np.float32)), [2, 3]))
    assert [score.silhouette for score in scores] == [0.0, 0.0]


def test_of_several_that_are_as_good_the_fewest_clusters_are_chosen() -> None:
    assert choose([KScore(2, 0.9, 0.1, 1.0), KScore(3, 0.5, 0.3, 0.5), KScore(4, 0.4, 0.3, 0.9)]) == 3


def test_the_rows_of_a_large_collection_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "CLUSTERED", 200)
    monkeypatch.setattr(choosing, "COMPARED", 50)
    assert choose(list(curve(Points.of(blobs(5, 400)), range(2, 10)))) == 5
