"""Averages with the nearest neighbours: as a plain loop computes them, and the same after changes as from nothing."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smoothing_reference import all_averaged, nearest_others

import imgindex.search.smoothing
from imgindex.search.exact import ExactSearch
from imgindex.search.smoothing import NEIGHBOURS, Neighbourhoods, SmoothedRows, average, each_average, find_neighbours
from imgindex.types import Ids, Neighbours, Progress, VectorBlock
from imgindex.vectors.rows import VectorRows

Collection = dict[int, np.ndarray]  # id → vector


def drawn(n: int, d: int = 12, seed: int = 0, *, unit: bool = False) -> Collection:
    """Vectors in a few heaps; some are equal, some point away from the others, and one is zero."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((4, d))[rng.integers(4, size=n)] + 0.3 * rng.standard_normal((n, d))
    vectors[: n // 4] = vectors[n // 2 : n // 2 + 1]
    vectors[-1:] = 0
    if unit:
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    ids = np.sort(rng.choice(10 * n + 1, n, replace=False)) + 1
    return dict(zip(ids.tolist(), vectors.astype(np.float32), strict=True))


def crcs(collection: Collection) -> Ids:
    return np.array([zlib.crc32(vector.tobytes()) for vector in collection.values()], np.int64)


def found(collection: Collection, before: Neighbourhoods | None = None) -> tuple[VectorRows, Neighbourhoods, list[int]]:
    """The vectors and neighbourhoods of a collection, and how many rows each search compared queries with."""
    collection = dict(sorted(collection.items()))
    ids, vectors = np.array(list(collection), np.int64), np.array(list(collection.values()), np.float32).reshape(-1, 12)
    sizes: list[int] = []

    class Counted(ExactSearch):
        def search(self, queries: np.ndarray, n: int) -> Neighbours:
            sizes.append(len(queries) * sum(int((block.ids >= 0).sum()) for block in self.blocks))
            return super().search(queries, n)

    def among(some: Ids) -> ExactSearch:
        return Counted([VectorBlock(np.where(np.isin(ids, some), ids, -1), vectors)])

    points = VectorRows.of(vectors)
    known = before or Neighbourhoods.none()
    return points, find_neighbours(points, ids, crcs(collection), among(ids), among, known, lambda event: None), sizes


def averages(points: VectorRows, known: Neighbourhoods, *, unit: bool) -> np.ndarray:
    return np.concatenate(
        [np.empty((0, 12), np.float32), *(rows for _, rows in each_average(points, known, unit=unit))]
    )


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("n", [0, 1, 2, 5, 8, 9, 10, 200])
def test_averages_are_those_of_a_plain_loop(n: int, unit: bool) -> None:
    points, known, _ = found(drawn(n, unit=unit))
    expected = all_averaged(points[:], known.ids, unit=unit)
    np.testing.assert_allclose(averages(points, known, unit=unit), expected, atol=1e-6)
    assert known.near.shape == known.distances.shape == (n, NEIGHBOURS)
    # All vectors of length 1 are equally far from that of zeros, but for rounding.
    for row, own in enumerate(known.ids.tolist()[:-1]):
        others = known.ids[nearest_others(points[:], known.ids, points[row : row + 1][0], own)]
        assert known.near[row].tolist() == others.tolist() + [-1] * (NEIGHBOURS - len(others))


def test_blocks_of_any_size_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    collection = drawn(150)
    points, known, _ = found(collection)
    whole = averages(points, known, unit=True)
    monkeypatch.setattr(imgindex.search.smoothing, "AVERAGED_BYTES", 5000)
    monkeypatch.setattr(imgindex.search.smoothing, "QUERIES", 17)
    points, again, _ = found(collection)
    assert again.near.tobytes() == known.near.tobytes()
    assert averages(points, again, unit=True).tobytes() == whole.tobytes()


def test_opposite_and_perpendicular_neighbours_have_no_weight() -> None:
    points = VectorRows.of(np.float32([[1, 0], [-1, 0], [0, 1], [0, 0]]))
    near = np.array([[2, 3, 4, -1, -1, -1, -1, -1]])
    np.testing.assert_array_equal(average(points[:1], near, np.array([1, 2, 3, 4]), points, unit=False), points[:1])


def test_the_average_has_length_1_where_vectors_have() -> None:
    points, known, _ = found(drawn(60, unit=True))
    lengths = np.linalg.norm(averages(points, known, unit=True), axis=1)
    np.testing.assert_allclose(lengths[:-1], 1, atol=1e-6)
    assert lengths[-1] == 0


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 80),
    added=st.integers(0, 30),
    removed=st.integers(0, 20),
    changed=st.integers(0, 10),
)
def test_after_any_change_neighbours_are_those_found_from_nothing(
    seed: int, n: int, added: int, removed: int, changed: int
) -> None:
    rng = np.random.default_rng(seed)
    before = drawn(n, seed=seed)
    _, known, _ = found(before)
    after = dict(before)
    for id in rng.permutation(list(before))[:removed].tolist():
        del after[int(id)]
    for id in rng.permutation(list(after))[:changed].tolist():
        after[int(id)] = rng.standard_normal(12).astype(np.float32)
    new = drawn(added, seed=seed + 1)
    after |= {id: vector for id, vector in new.items() if id not in before}
    points, updated, _ = found(after, known)
    _, expected, _ = found(after)
    assert updated.ids.tolist() == sorted(after)
    for one, other in ((updated.near, expected.near), (updated.distances, expected.distances)):
        assert one.tobytes() == other.tobytes()
    assert averages(points, updated, unit=False).tobytes() == averages(points, expected, unit=False).tobytes()


def test_only_what_can_have_changed_is_searched_for() -> None:
    collection = drawn(100)
    _, known, whole = found(collection)
    _, _, nothing = found(collection, known)
    assert (sum(whole), nothing) == (100 * 100, [])
    new = {2000: np.ones(12, np.float32)}
    _, _, one = found(collection | new, known)
    assert sum(one) == 100 * 1 + 1 * 101
    id = known.near[0, 0]
    losers = int((known.near == id).any(axis=1).sum())
    _, _, lost = found({other: vector for other, vector in collection.items() if other != id}, known)
    assert sum(lost) <= losers * 99


def test_progress_counts_all_images_that_are_compared() -> None:
    events: list[Progress] = []
    vectors = np.random.default_rng(0).standard_normal((30, 12)).astype(np.float32)
    ids, points = np.arange(1, 31), VectorRows.of(vectors)
    search = ExactSearch([VectorBlock(ids, vectors)])
    find_neighbours(points, ids, ids, search, lambda some: search, Neighbourhoods.none(), events.append)
    assert [(event.done, event.total) for event in events] == [(0, 30), (30, 30)]


def test_rows_of_other_images_than_asked_for_have_no_id() -> None:
    known = Neighbourhoods(np.array([3, 5, 9]), np.zeros(3, np.int64), np.zeros((3, 8), np.int64), np.zeros((3, 8)))
    rows = SmoothedRows(known, np.zeros((3, 2), np.float32), "exact")
    assert rows.block().ids.tolist() == [3, 5, 9]
    assert rows.block(np.array([5, 7])).ids.tolist() == [-1, 5, -1]
