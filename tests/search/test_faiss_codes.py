"""Codes of eight bits a component rank candidates nearly as the components themselves do."""

from __future__ import annotations

import numpy as np
import pytest

from imgindex.search.exact import DIRECT
from imgindex.search.faiss_codes import Codes, new_codes


def points(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 24)).astype(np.float32)


@pytest.mark.parametrize("queries", [1, DIRECT + 1])
def test_the_nearest_candidates_are_kept(queries: int) -> None:
    stored, asked = points(400, 0), points(queries, 1)
    ids = np.random.default_rng(2).permutation(1000)[:400]
    index = new_codes(stored)
    index.add_with_ids(stored, ids)
    candidates = np.stack([np.random.default_rng(number).permutation(400)[:100] for number in range(queries)])
    squares = np.linalg.norm(stored[candidates] - asked[:, None], axis=2)
    nearest = np.take_along_axis(ids[candidates], squares.argsort(axis=1)[:, :10], axis=1)
    found = Codes(index).nearest(asked, ids[candidates], 20)
    assert all(set(of_query) <= set(kept) for of_query, kept in zip(nearest, found, strict=True))


def test_what_is_no_candidate_is_not_found_and_few_candidates_are_all_found() -> None:
    stored = points(50, 0)
    index = new_codes(stored)
    index.add_with_ids(stored, np.arange(50))
    candidates = np.array([[7, -1, 3, -1, -1, -1], [-1, -1, -1, -1, -1, -1]])
    found = Codes(index).nearest(points(2, 1), candidates, 4)
    assert np.sort(found, axis=1).tolist() == [[-1, -1, 3, 7], [-1, -1, -1, -1]]
