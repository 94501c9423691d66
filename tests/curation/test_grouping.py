"""Groups of duplicates among vectors: those planted among 22,000, those of an exact comparison, and never a chain."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from collections_of import numbers, of_vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

import imgindex.curation.duplicates
from imgindex.curation.grouping import groups_around_centres
from imgindex.results import Duplicates


def groups(found: Duplicates) -> list[list[int]]:
    return sorted(numbers([one.path for one in group.images]) for group in found.groups)


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, list[int], list[list[int]]]:
    """22,000 vectors, their contents, and the groups among them, of which no two images of different ones are near.

    400 groups of near vectors; 1,000 copies of one file with two near it; 1,000 pages of one vector and as many
    contents; 200 vectors that are near to each other, more than neighbours are asked for; and the rest alone.
    """
    rng = np.random.default_rng(7)
    vectors = rng.uniform(0, 100, (22_000, 12)).astype(np.float32)
    contents, sets, next_one = list(range(len(vectors))), [], 0

    def take(count: int, spread: float) -> list[int]:
        nonlocal next_one
        members = list(range(next_one, next_one + count))
        noise = rng.normal(size=(count, 12))
        noise *= spread * rng.uniform(0.2, 1, (count, 1)) / np.linalg.norm(noise, axis=1, keepdims=True)
        vectors[members] = vectors[members[0]] + noise
        next_one += count
        sets.append(members)
        return members

    for _ in range(400):
        take(int(rng.integers(2, 7)), 0.1)
    copies = take(1_002, 0.1)
    vectors[copies[:1_000]] = vectors[copies[0]]
    for one in copies[:1_000]:
        contents[one] = copies[0]
    pages = take(1_000, 0.1)
    vectors[pages] = vectors[pages[0]]
    take(200, 0.1)
    order = rng.permutation(len(vectors))
    place = np.argsort(order)
    first = {old: int(place[old]) for old in range(len(vectors))}
    shuffled = [0] * len(vectors)
    for old, content in enumerate(contents):
        shuffled[first[old]] = content
    return vectors[order], shuffled, sorted(sorted(first[one] for one in some) for some in sets)


def test_exactly_the_groups_planted_among_22_000_vectors_are_found(
    tmp_path: Path, planted: tuple[np.ndarray, list[int], list[list[int]]]
) -> None:
    vectors, contents, wanted = planted
    with of_vectors(tmp_path / "it.imgindex", vectors, contents) as index:
        tracemalloc.start()
        try:
            found = index.duplicates(distance=0.2)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert groups(found) == wanted
        assert most < len(vectors) ** 2 / 4  # a matrix of all distances would have 16 times as many bytes
        assert (found.images, found.distance) == (22_000, 0.2)
        assert len(found.groups[0].images) == 1_002
        assert {one.how for one in found.groups[0].images} == {"kept", "exact", "near"}
        (alike,) = groups(index.duplicates(exact=True))
        assert len(alike) == 1_000


def test_a_chain_of_near_images_is_cut_into_groups(tmp_path: Path) -> None:
    chain = np.zeros((21, 12), dtype=np.float32)
    chain[:, 0] = 0.9 * np.arange(21)
    with of_vectors(tmp_path / "it.imgindex", chain) as index:
        found = index.duplicates(distance=1.0)
    assert max(map(len, groups(found))) == 3
    for group in groups(found):
        assert max(group) - min(group) <= 2


def test_a_group_may_be_larger_than_the_number_of_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imgindex.curation.duplicates, "NEIGHBOURS", 3)
    vectors = np.random.default_rng(0).normal(0, 0.01, (60, 12)).astype(np.float32)
    vectors[:20] += 5
    with of_vectors(tmp_path / "it.imgindex", vectors) as index:
        assert groups(index.duplicates(distance=1.0)) == [list(range(20)), list(range(20, 60))]


points = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=25)


@given(points=points, crowded=st.booleans())
@settings(max_examples=300, deadline=None)
def test_groups_lie_around_centres_and_leave_no_near_pair_ungrouped(
    points: list[tuple[int, int]], crowded: bool
) -> None:
    rows = np.array(points, dtype=float).reshape(-1, 2)
    near = np.linalg.norm(rows[:, None] - rows, axis=2) <= 2
    pairs = np.argwhere(np.triu(near, 1))
    # For crowded rows, only one pair of each row is given.
    given_pairs = pairs[np.unique(pairs[:, 0], return_index=True)[1]] if crowded else pairs
    centre = groups_around_centres(
        len(rows),
        (given_pairs[:, 0], given_pairs[:, 1]),
        np.full(len(rows), crowded),
        lambda row, others: near[row, others],
    )
    part = connected_components(near)[1]
    for row, its in enumerate(centre):
        assert near[row, its]
        assert part[row] == part[its]
        assert centre[its] == its
    alone = [row for row in range(len(rows)) if (centre == centre[row]).sum() == 1]
    if not crowded:
        assert not near[np.ix_(alone, alone)][~np.eye(len(alone), dtype=bool)].any()
        # A row that is near to a row on its own belongs to the group of another centre.
        assert all(centre[other] != other for row in alone for other in np.flatnonzero(near[row]) if other != row)


def test_a_condition_limits_the_images_that_are_compared(tmp_path: Path) -> None:
    with of_vectors(tmp_path / "it.imgindex", np.zeros((6, 12), dtype=np.float32)) as index:
        found = index.duplicates(distance=0.1, where="id between 3 and 5")
    assert groups(found) == [[2, 3, 4]]
    assert found.images == 3
