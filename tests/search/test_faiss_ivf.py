"""FAISS's part of a search: it finds enough, and speaks of the rows as they are now, not as it knew them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from faiss_samples import DIMENSION, ROWS, clustered, in_blocks, lengths, search

from imgindex.search.exact import ExactSearch
from imgindex.search.faiss_build import Built, build, recall
from imgindex.search.faiss_ivf import IvfSearch, SearchMetadata, parts_of, stored_ids
from imgindex.types import Neighbours, VectorBlock


def changed(blocks: Sequence[VectorBlock]) -> list[VectorBlock]:
    """The same rows with ids that may be written to."""
    return [VectorBlock(block.ids.copy(), block.vectors) for block in blocks]


def appended(blocks: Sequence[VectorBlock], ids: Sequence[int], vectors: np.ndarray) -> list[VectorBlock]:
    """The blocks with new rows behind those of the last one."""
    last = blocks[-1]
    return [*blocks[:-1], VectorBlock(np.concatenate([last.ids, ids]), np.concatenate([last.vectors, vectors]))]


def assert_same(one: Neighbours, other: Neighbours) -> None:
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.distances, other.distances)


@pytest.mark.parametrize("n", [1, 10, 100])
def test_queries_that_are_not_stored_find_their_neighbours(blocks: list[VectorBlock], built: Built, n: int) -> None:
    queries = clustered(300, seed=1)
    found, truth = search(built, blocks, blocks).search(queries, n), ExactSearch(blocks).search(queries, n)
    assert recall(found.distances, truth.distances) >= 0.99
    same = found.ids == truth.ids
    np.testing.assert_array_equal(found.distances[same], truth.distances[same])


def test_an_index_holds_the_ids_of_the_catalogue(blocks: list[VectorBlock], built: Built) -> None:
    assert (
        sorted(stored_ids(parts_of(built.index).ivf).tolist())
        == np.concatenate([block.ids for block in blocks]).tolist()
    )


def test_an_updated_image_is_found_where_it_is_and_not_where_it_was(blocks: list[VectorBlock], built: Built) -> None:
    old = np.asarray(blocks[0].vectors[:5], np.float32)
    new = clustered(5, seed=2)
    ids = blocks[0].ids[:5].tolist()
    now = changed(appended(blocks, ids, new.astype(blocks[0].vectors.dtype)))
    now[0].ids[:5] = -1
    joined = search(built, now, blocks)
    for queries in (old, new):
        assert_same(joined.search(queries, 10), ExactSearch(now).search(queries, 10))
    here = joined.search(np.asarray(now[-1].vectors[-5:], np.float32), 1)
    assert here.ids[:, 0].tolist() == ids
    assert (here.distances == 0).all()
    assert not (joined.search(old, 10).distances == 0).any()


def test_newer_rows_are_found_among_older_ones(blocks: list[VectorBlock], built: Built) -> None:
    new = clustered(3000, seed=3).astype(blocks[0].vectors.dtype)
    block = VectorBlock(np.arange(200_000, 201_000), new[:1000])
    now = [*appended(blocks, range(100_000, 102_000), new[1000:]), block]
    queries = clustered(100, seed=4)
    found = IvfSearch(built.index, built.metadata, now, [*lengths(blocks), 0]).search(queries, 20)
    truth = ExactSearch(now).search(queries, 20)
    assert recall(found.distances, truth.distances) >= 0.99
    assert {0, 1, 2} <= set((found.ids // 100_000).ravel().tolist())


def test_missing_images_are_not_found_and_do_not_shorten_answers(blocks: list[VectorBlock], built: Built) -> None:
    queries = clustered(20, seed=5)
    now = changed(blocks)
    first = search(built, now, blocks).search(queries, 200)
    for block in now:
        block.ids[np.isin(block.ids, first.ids)] = -1
    found = search(built, now, blocks).search(queries, 200)
    assert not np.isin(found.ids, first.ids).any()
    assert (found.ids >= 0).all()
    assert recall(found.distances, ExactSearch(now).search(queries, 200).distances) >= 0.99


@pytest.mark.parametrize("left", [0, 1, 15, 200])
def test_the_last_present_images_are_found_in_whatever_list_they_are(
    blocks: list[VectorBlock], built: Built, left: int
) -> None:
    present = np.random.default_rng(6).choice(np.concatenate([block.ids for block in blocks]), left, replace=False)
    now = [VectorBlock(np.where(np.isin(block.ids, present), block.ids, -1), block.vectors) for block in blocks]
    queries = clustered(10, seed=6)
    assert_same(search(built, now, blocks).search(queries, 15), ExactSearch(now).search(queries, 15))


def test_images_that_were_missing_when_the_index_was_built_are_found_when_they_reappear() -> None:
    now = in_blocks(clustered(3000))
    before = changed(now)
    away = [slice(0, 700), slice(100, 900, 7)]
    for block, rows in zip(before, away, strict=True):
        block.ids[rows] = -1
    built = build(before, dimension=DIMENSION, target=0.99)
    assert built.metadata.rows == sum(int((block.ids >= 0).sum()) for block in before)
    for block, rows in zip(now, away, strict=True):
        queries = block.vectors[rows][:50]
        assert_same(search(built, now, now).search(queries, 1), ExactSearch(now).search(queries, 1))
        assert not np.isin(search(built, before, now).search(queries, 5).ids, block.ids[rows]).any()


@pytest.mark.parametrize("n", [1000, ROWS, ROWS + 5])
def test_more_answers_than_the_lists_at_hand_hold_are_found(blocks: list[VectorBlock], built: Built, n: int) -> None:
    queries = clustered(3, seed=7)
    found, truth = search(built, blocks, blocks).search(queries, n), ExactSearch(blocks).search(queries, n)
    assert ((found.ids >= 0).sum(axis=1) == min(n, ROWS)).all()
    assert all(len(set(of_query[of_query >= 0].tolist())) == min(n, ROWS) for of_query in found.ids)
    assert recall(found.distances, truth.distances) >= 0.99


def test_duplicates_are_found_in_the_order_of_ids() -> None:
    vectors = clustered(5000)
    vectors[100:4000:100] = vectors[0]
    now = in_blocks(vectors)
    built = build(now, dimension=DIMENSION, target=0.99)
    found = search(built, now, now).search(vectors[:1], 40)
    assert found.ids[0, :39].tolist() == [1, *range(301, 12001, 300)][:39]
    assert (found.distances[0, :39] == 0).all()
    assert_same(found, ExactSearch(now).search(vectors[:1], 40))


def test_a_collection_of_one_picture_many_times_is_searched() -> None:
    now = in_blocks(np.repeat(clustered(1), 2000, axis=0))
    found = search(build(now, dimension=DIMENSION, target=0.99), now, now).search(clustered(2), 10)
    assert (found.ids >= 0).all()
    assert found.distances[0].tolist() == [0.0] * 10


def test_an_index_of_no_rows_finds_the_newer_ones() -> None:
    built = build([], dimension=DIMENSION, target=0.99)
    assert (built.metadata.rows, built.metadata.recall) == (0, 1.0)
    now = in_blocks(clustered(50))
    queries = clustered(2, seed=8)
    assert_same(
        IvfSearch(built.index, built.metadata, now, [0, 0]).search(queries, 9), ExactSearch(now).search(queries, 9)
    )


def test_building_and_searching_are_silent(capfd: pytest.CaptureFixture[str]) -> None:
    for rows in (1, 30, 1000):
        now = in_blocks(clustered(rows))
        search(build(now, dimension=DIMENSION, target=0.99), now, now).search(clustered(2), 5)
    assert capfd.readouterr() == ("", "")


def test_metadata_comes_back_from_json(built: Built) -> None:
    assert SearchMetadata.from_json(built.metadata.to_json()) == built.metadata


@pytest.mark.parametrize("change", [{"nprobe": 0}, {"nprobe": 10**6}, {"rows": "many"}, {"refine": 0}, {"more": 1}])
def test_other_json_is_not_metadata(built: Built, change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="metadata"):
        SearchMetadata.from_json(json.dumps(json.loads(built.metadata.to_json()) | change))
    for text in ("", "{", "[]", "{}", "null"):
        with pytest.raises(ValueError):  # noqa: PT011
            SearchMetadata.from_json(text)
