"""FAISS's part of a search: it finds enough, and speaks of the rows as they are now, not as it knew them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from imgindex.search import faiss_build
from imgindex.search.exact import ExactSearch
from imgindex.search.faiss_build import Built, build, recall
from imgindex.search.faiss_search import FaissSearch, Receipt, save, stored_ids
from imgindex.types import Neighbours, Rows

ROWS, DIMENSION = 20_000, 64


def clustered(n: int, *, seed: int = 0, dimension: int = DIMENSION) -> np.ndarray:
    """Rows around 200 centres that are the same for every seed."""
    centres = np.random.default_rng(7).standard_normal((200, dimension))
    generator = np.random.default_rng(seed)
    return (centres[generator.integers(0, 200, n)] + 0.5 * generator.standard_normal((n, dimension))).astype(np.float32)


def in_blocks(vectors: np.ndarray, *, first: int = 1) -> list[Rows]:
    """Two blocks, with ids that rise and have gaps."""
    ids = np.arange(first, first + 3 * len(vectors), 3, dtype=np.int64)
    cut = len(vectors) * 2 // 3
    return [Rows(ids[:cut], vectors[:cut]), Rows(ids[cut:], vectors[cut:])]


def lengths(blocks: Sequence[Rows]) -> list[int]:
    return [len(block.ids) for block in blocks]


def changed(blocks: Sequence[Rows]) -> list[Rows]:
    """The same rows with ids that may be written to."""
    return [Rows(block.ids.copy(), block.vectors) for block in blocks]


def appended(blocks: Sequence[Rows], ids: Sequence[int], vectors: np.ndarray) -> list[Rows]:
    """The blocks with new rows behind those of the last one."""
    last = blocks[-1]
    return [*blocks[:-1], Rows(np.concatenate([last.ids, ids]), np.concatenate([last.vectors, vectors]))]


def assert_same(one: Neighbours, other: Neighbours) -> None:
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.distances, other.distances)


@pytest.fixture(scope="module", params=[np.float32, np.float16], ids=["float32", "float16"])
def blocks(request: pytest.FixtureRequest) -> list[Rows]:
    return in_blocks(clustered(ROWS).astype(request.param))


@pytest.fixture(scope="module")
def built(blocks: list[Rows]) -> Built:
    return build(blocks, dimension=DIMENSION, target=0.99)


def search(built: Built, now: Sequence[Rows], covered: Sequence[Rows]) -> FaissSearch:
    return FaissSearch(built.index, built.receipt, now, lengths(covered))


@pytest.mark.parametrize("n", [1, 10, 100])
def test_queries_that_are_not_stored_find_their_neighbours(blocks: list[Rows], built: Built, n: int) -> None:
    queries = clustered(300, seed=1)
    found, truth = search(built, blocks, blocks).search(queries, n), ExactSearch(blocks).search(queries, n)
    assert recall(found.distances, truth.distances) >= 0.99
    same = found.ids == truth.ids
    np.testing.assert_array_equal(found.distances[same], truth.distances[same])


def test_the_receipt_says_what_was_built_and_that_it_finds_enough_without_looking_everywhere(built: Built) -> None:
    receipt = built.receipt
    assert receipt.reached
    assert receipt.recall >= receipt.target == 0.99
    assert receipt.queries == faiss_build.QUERIES
    assert receipt.rows == built.index.ntotal == ROWS
    assert receipt.factory == f"IVF{receipt.nlist},RaBitQfs"
    assert receipt.nprobe < receipt.nlist / 10
    assert receipt.seconds > 0


def test_an_index_holds_the_ids_of_the_catalogue(blocks: list[Rows], built: Built) -> None:
    assert sorted(stored_ids(built.index).tolist()) == np.concatenate([block.ids for block in blocks]).tolist()


def test_an_updated_image_is_found_where_it_is_now_and_not_where_it_was(blocks: list[Rows], built: Built) -> None:
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


def test_newer_rows_are_found_among_older_ones(blocks: list[Rows], built: Built) -> None:
    new = clustered(3000, seed=3).astype(blocks[0].vectors.dtype)
    block = Rows(np.arange(200_000, 201_000), new[:1000])
    now = [*appended(blocks, range(100_000, 102_000), new[1000:]), block]
    queries = clustered(100, seed=4)
    found = FaissSearch(built.index, built.receipt, now, [*lengths(blocks), 0]).search(queries, 20)
    truth = ExactSearch(now).search(queries, 20)
    assert recall(found.distances, truth.distances) >= 0.99
    assert {0, 1, 2} <= set((found.ids // 100_000).ravel().tolist())


def test_hidden_images_are_not_found_and_make_no_answer_shorter(blocks: list[Rows], built: Built) -> None:
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
def test_the_last_images_that_are_shown_are_found_wherever_they_lie(
    blocks: list[Rows], built: Built, left: int
) -> None:
    shown = np.random.default_rng(6).choice(np.concatenate([block.ids for block in blocks]), left, replace=False)
    now = [Rows(np.where(np.isin(block.ids, shown), block.ids, -1), block.vectors) for block in blocks]
    queries = clustered(10, seed=6)
    assert_same(search(built, now, blocks).search(queries, 15), ExactSearch(now).search(queries, 15))


def test_images_that_were_hidden_when_the_index_was_built_are_found_when_they_reappear() -> None:
    now = in_blocks(clustered(3000))
    before = changed(now)
    away = [slice(0, 700), slice(100, 900, 7)]
    for block, rows in zip(before, away, strict=True):
        block.ids[rows] = -1
    built = build(before, dimension=DIMENSION, target=0.99)
    assert built.receipt.rows == sum(int((block.ids >= 0).sum()) for block in before)
    for block, rows in zip(now, away, strict=True):
        queries = block.vectors[rows][:50]
        assert_same(search(built, now, now).search(queries, 1), ExactSearch(now).search(queries, 1))
        assert not np.isin(search(built, before, now).search(queries, 5).ids, block.ids[rows]).any()


@pytest.mark.parametrize("n", [1000, ROWS, ROWS + 5])
def test_more_answers_than_the_lists_at_hand_hold_are_found(blocks: list[Rows], built: Built, n: int) -> None:
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


def test_a_collection_of_one_picture_many_times_is_no_trouble() -> None:
    now = in_blocks(np.repeat(clustered(1), 2000, axis=0))
    found = search(build(now, dimension=DIMENSION, target=0.99), now, now).search(clustered(2), 10)
    assert (found.ids >= 0).all()
    assert found.distances[0].tolist() == [0.0] * 10


def test_rows_that_faiss_cannot_compute_with_do_not_spoil_the_others() -> None:
    vectors = clustered(4000)
    vectors[5], vectors[50, 3], vectors[500], vectors[3000] = np.nan, np.inf, 1e18, -1e18
    now = in_blocks(vectors)
    built = build(now, dimension=DIMENSION, target=0.99)
    assert built.receipt.rows == 3996
    assert built.receipt.reached
    joined, exact = search(built, now, now), ExactSearch(now)
    near = [each.search(vectors[100:200], 10).distances for each in (joined, exact)]
    assert recall(*near) >= 0.99
    # Each of these finds itself, and all others equally far away.
    far = joined.search(vectors[[500, 3000]], 10)
    assert far.ids[:, 0].tolist() == [1501, 9001]
    np.testing.assert_array_equal(far.distances, exact.search(vectors[[500, 3000]], 10).distances)


def test_an_index_of_no_rows_finds_the_newer_ones() -> None:
    built = build([], dimension=DIMENSION, target=0.99)
    assert (built.receipt.rows, built.receipt.recall) == (0, 1.0)
    now = in_blocks(clustered(50))
    queries = clustered(2, seed=8)
    assert_same(
        FaissSearch(built.index, built.receipt, now, [0, 0]).search(queries, 9), ExactSearch(now).search(queries, 9)
    )


def test_a_target_out_of_reach_is_not_said_to_be_reached() -> None:
    receipt = build(in_blocks(clustered(900)), dimension=DIMENSION, target=1.5).receipt
    assert not receipt.reached
    assert (receipt.nprobe, receipt.recall) == (receipt.nlist, 1.0)


def test_same_rows_and_seed_same_index(monkeypatch: pytest.MonkeyPatch) -> None:
    now = in_blocks(clustered(4000))

    def written(seed: int) -> tuple[bytes, Receipt]:
        built, file = build(now, dimension=DIMENSION, target=0.99, seed=seed), io.BytesIO()
        save(built.index, file)
        return file.getvalue(), replace(built.receipt, seconds=0.0)

    one = written(5)
    assert one == written(5)
    assert one[0] != written(6)[0]
    # However small the pieces that are read at a time.
    monkeypatch.setattr(faiss_build, "PIECE_BYTES", 4 * DIMENSION * 7)
    assert one == written(5)


def test_where_the_sample_must_be_small_there_are_fewer_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_build, "SAMPLE_BYTES", 4 * DIMENSION * 400)
    receipt = build(in_blocks(clustered(4000)), dimension=DIMENSION, target=0.99).receipt
    assert receipt.nlist == 10
    assert receipt.reached


def test_building_and_searching_are_silent(capfd: pytest.CaptureFixture[str]) -> None:
    for rows in (1, 30, 1000):
        now = in_blocks(clustered(rows))
        search(build(now, dimension=DIMENSION, target=0.99), now, now).search(clustered(2), 5)
    assert capfd.readouterr() == ("", "")


def test_a_receipt_comes_back_from_json(built: Built) -> None:
    assert Receipt.from_json(built.receipt.to_json()) == built.receipt


@pytest.mark.parametrize("change", [{"nprobe": 0}, {"nprobe": 10**6}, {"rows": "many"}, {"refine": 0}, {"more": 1}])
def test_what_is_no_receipt_is_refused(built: Built, change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="receipt"):
        Receipt.from_json(json.dumps(json.loads(built.receipt.to_json()) | change))
    for text in ("", "{", "[]", "{}", "null"):
        with pytest.raises(ValueError):  # noqa: PT011
            Receipt.from_json(text)
