"""Groups of copies: each around a centre, with few comparisons, and no two groups of one picture."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from imgindex.curation.grouping import batches, group_copies

Pair = tuple[int, int]


class Pictures:
    """Says which ids show the same picture, and counts what it is asked."""

    def __init__(self, picture: dict[int, int]) -> None:
        self.picture, self.asked = picture, []

    def __call__(self, pairs: Sequence[Pair]) -> list[bool]:
        self.asked += pairs
        return [self.picture[a] == self.picture[b] for a, b in pairs]


def test_a_large_group_takes_about_as_many_comparisons_as_it_has_images() -> None:
    count = 10_000
    verify = Pictures({id: id // 10 for id in range(count)})
    edges = [(id, other) for id in range(count) for other in range(id + 1, id // 10 * 10 + 10)]
    groups = group_copies(edges, dict.fromkeys(range(count), 0), verify)
    assert sorted(map(sorted, groups)) == [list(range(first, first + 10)) for first in range(0, count, 10)]
    assert len(verify.asked) == count - count // 10


def test_pictures_that_only_may_be_copies_are_compared_once_and_stay_apart() -> None:
    verify = Pictures({id: id for id in range(12)})
    edges = [(a, b) for a in range(12) for b in range(a)]
    assert group_copies(edges, dict.fromkeys(range(12), 0), verify) == []
    assert len(verify.asked) == len(set(map(frozenset, verify.asked))) == 66


def test_the_image_with_the_lowest_rank_is_the_centre() -> None:
    groups = group_copies([(1, 2), (2, 3)], {1: 5, 2: 0, 3: 5}, Pictures({1: 0, 2: 0, 3: 0}))
    assert groups == [[2, 1, 3]]


def test_without_pairs_there_are_no_groups() -> None:
    assert group_copies([], {}, Pictures({})) == []


@given(
    pairs=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40),
    images=st.integers(1, 20),
)
@settings(deadline=None)
def test_batches_keep_connected_pairs_together_and_lose_none(pairs: list[Pair], images: int) -> None:
    found = list(batches(pairs, images))
    assert sorted(pair for batch in found for pair in batch) == sorted(pairs)
    of_batches = [{id for pair in batch for id in pair} for batch in found]
    assert sum(map(len, of_batches)) == len(set().union(*of_batches))
    assert all(len(ids) >= images for ids in of_batches[:-1])


@given(
    pictures=st.lists(st.integers(0, 4), min_size=2, max_size=14),
    pairs=st.sets(st.tuples(st.integers(0, 13), st.integers(0, 13)), max_size=40),
)
@settings(max_examples=200, deadline=None)
def test_what_pairs_of_one_picture_connect_is_one_group(pictures: list[int], pairs: set[Pair]) -> None:
    count = len(pictures)
    edges = sorted({(min(pair), max(pair)) for pair in pairs if max(pair) < count and pair[0] != pair[1]})
    verify = Pictures(dict(enumerate(pictures)))
    groups = group_copies(edges, {id: id for id in range(count)}, verify)
    assert all(len({pictures[id] for id in group}) == 1 for group in groups)
    group_of = {id: number for number, group in enumerate(groups) for id in group}
    for a, b in edges:
        if pictures[a] == pictures[b]:
            assert group_of[a] == group_of[b]
    assert len(verify.asked) == len(set(verify.asked))
