"""Neighbours of images without the images themselves."""

from __future__ import annotations

import numpy as np

from imgindex.search.neighbours import without_themselves
from imgindex.types import Neighbours


def test_an_image_is_left_out_of_its_neighbours_wherever_it_is() -> None:
    near = Neighbours(np.array([[1, 2, 3], [5, 2, 9], [7, 8, 3]]), np.float32([[0, 1, 2], [0, 0, 1], [0, 1, 2]]))
    found = without_themselves(np.array([1, 2, 3]), near)
    assert found.ids.tolist() == [[2, 3], [5, 9], [7, 8]]
    assert found.distances.tolist() == [[1, 2], [0, 1], [0, 1]]


def test_the_last_neighbour_is_left_out_where_the_image_is_not_among_them() -> None:
    near = Neighbours(np.array([[4, 5, 6], [4, -1, -1]]), np.float32([[0, 0, 0], [0, np.inf, np.inf]]))
    found = without_themselves(np.array([1, 2]), near)
    assert found.ids.tolist() == [[4, 5], [4, -1]]
