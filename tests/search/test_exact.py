"""Exact search alone, against a comparison with every row; test_search_contract.py has what all searches promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from imgindex.errors import IndexDamaged
from imgindex.search.exact import DIRECT, ExactSearch
from imgindex.types import VectorBlock


@pytest.mark.parametrize("queries", [1, DIRECT, DIRECT + 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_distances_are_those_of_scipy(dtype: type, queries: int) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((500, 40)).astype(dtype)
    asked = rng.standard_normal((queries, 40)).astype(np.float32)
    found = ExactSearch([VectorBlock(np.arange(1, 501), vectors)]).search(asked, 500)
    apart = cdist(asked, vectors.astype(np.float64))
    np.testing.assert_allclose(found.distances, np.sort(apart, axis=1), rtol=1e-5)
    # Distances that differ by less than float32 can hold are in either order.
    np.testing.assert_allclose(np.take_along_axis(apart, found.ids - 1, axis=1), found.distances, rtol=1e-5)
    assert all(len(set(row)) == 500 for row in found.ids.tolist())


def test_the_rows_of_present_images_are_checked_before_any_is_compared() -> None:
    checked = []

    def check(rows: np.ndarray) -> None:
        checked.append(rows.tolist())
        raise IndexDamaged("a row is damaged")

    with pytest.raises(IndexDamaged):
        ExactSearch([VectorBlock(np.array([1, -1, 2]), np.ones((3, 4), np.float32), check)])
    assert checked == [[0, 2]]
