"""Clusters of bounded size: the bounds hold, and the cost is near the least that there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from imgindex.clustering.balanced import limit_sizes
from imgindex.clustering.kmeans import kmeans
from imgindex.errors import UsageError
from imgindex.vectors.rows import VectorRows


def uneven(n: int, k: int, d: int, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(k, d)) * 2
    return (centres[rng.choice(k, n, p=rng.dirichlet(np.ones(k)))] + rng.normal(size=(n, d))).astype(np.float32)


@given(st.integers(1, 12), st.integers(12, 60), st.integers(0, 50))
@settings(max_examples=8, deadline=None)
def test_even_clusters_differ_by_one_at_most_and_labels_fall_by_size(k: int, n: int, seed: int) -> None:
    rows = uneven(n, 3, 4, seed=seed)
    found = limit_sizes(VectorRows.of(rows), kmeans(rows, k, restarts=1))
    assert sorted(found.sizes, reverse=True) == list(found.sizes) == np.bincount(found.labels).tolist()
    assert max(found.sizes) - min(found.sizes) <= 1


@pytest.mark.parametrize("seed", range(3))
def test_the_cost_of_even_clusters_is_near_the_least_for_their_centroids(seed: int) -> None:
    rows = uneven(400, 8, 6, seed=seed)
    found = limit_sizes(VectorRows.of(rows), kmeans(rows, 8))
    squares = ((rows[:, None].astype(np.float64) - found.centroids[None]) ** 2).sum(axis=2)
    seats = squares[:, np.repeat(np.arange(8), found.sizes)]
    least = seats[linear_sum_assignment(seats)].sum()
    assert found.objective == pytest.approx(squares[np.arange(400), found.labels].sum(), rel=1e-5)
    assert found.objective <= 1.01 * least


def test_a_largest_size_that_all_clusters_keep_changes_nothing() -> None:
    rows = uneven(300, 5, 6)
    free = kmeans(rows, 5)
    np.testing.assert_array_equal(limit_sizes(VectorRows.of(rows), free, most=300).labels, free.labels)


def test_twenty_thousand_rows_find_their_places() -> None:
    rows = uneven(20_000, 40, 32)
    free = kmeans(rows, 40)
    found = limit_sizes(VectorRows.of(rows), free, most=700)
    assert max(free.sizes) > 700 >= max(found.sizes)
    assert free.objective < found.objective < 2 * free.objective


def test_equal_rows_find_their_places_too() -> None:
    rows = np.repeat(np.eye(4, dtype=np.float32), [97, 1, 1, 1], axis=0)
    assert limit_sizes(VectorRows.of(rows), kmeans(rows, 4)).sizes == (25, 25, 25, 25)


def test_too_many_images_for_the_sizes_are_refused_with_both_ways_out() -> None:
    rows = uneven(100, 3, 4)
    with pytest.raises(UsageError, match="leave room for 90 of 100 images") as caught:
        limit_sizes(VectorRows.of(rows), kmeans(rows, 3), most=30)
    assert "`k=4`" in caught.value.hint
    assert "`max_size=34`" in caught.value.hint
