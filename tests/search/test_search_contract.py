"""What every search must answer, held against exact numpy in float64; any implementation of VectorSearch fits in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import milvus_server
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from milvus_server import Addresses

from imgindex.search import faiss_build, faiss_ivf
from imgindex.search.exact import ExactSearch
from imgindex.search.faiss_build import build
from imgindex.search.faiss_ivf import IvfSearch
from imgindex.search.milvus_address import milvus_address
from imgindex.storage.records import Location
from imgindex.storage.segments import Segments
from imgindex.types import Ids, Neighbours, VectorBlock, VectorSearch
from imgindex.vectors import pca

Make = Callable[[Sequence[VectorBlock]], VectorSearch]
Cut = Callable[[np.ndarray, np.ndarray], list[VectorBlock]]


def with_faiss(blocks: Sequence[VectorBlock], built_of: Sequence[VectorBlock]) -> VectorSearch:
    """FAISS told to look into every list, so that its answers are to be exact in small collections."""
    dimension = blocks[0].vectors.shape[1] if blocks else 24
    built = build(built_of, dimension=dimension, target=0.99)
    metadata = replace(built.metadata, nprobe=built.metadata.nlist, refine=512)
    return IvfSearch(built.index, metadata, blocks, [len(block.ids) for block in built_of])


def of_all_rows(blocks: Sequence[VectorBlock]) -> VectorSearch:
    return with_faiss(blocks, blocks)


def of_reduced_rows(blocks: Sequence[VectorBlock]) -> VectorSearch:
    """An index of the rows' first eight principal components, where there are enough rows to know these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pca, "REDUCTIONS", ((8, 0.0),))
        return with_faiss(blocks, blocks)


def of_lists_found_by_a_graph(blocks: Sequence[VectorBlock]) -> VectorSearch:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faiss_build, "MANY_LISTS", 1)
        return with_faiss(blocks, blocks)


def of_older_rows(blocks: Sequence[VectorBlock]) -> VectorSearch:
    """An index from before the last third of the rows, when others were hidden and those hidden now were shown."""
    before = []
    for block in blocks:
        ids = block.ids[: len(block.ids) * 2 // 3].copy()
        ids[ids < 0] = 100_000 + np.arange((ids < 0).sum())
        ids[::5] = -1
        before.append(VectorBlock(ids, block.vectors[: len(ids)]))
    return with_faiss(blocks, before)


class Ranked:
    """FAISS's candidates, of which only those get true distances that may be nearest, as many or long ones do."""

    def __init__(self, blocks: Sequence[VectorBlock]) -> None:
        self._search = of_all_rows(blocks)

    def search(self, queries: np.ndarray, n: int) -> Neighbours:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(faiss_ivf, "FEW_NUMBERS", 0)
            return self._search.search(queries, n)


SEARCHES: dict[str, Make] = {
    "exact": ExactSearch,
    "FAISS": of_all_rows,
    "FAISS, candidates ranked": Ranked,
    "FAISS, reduced": of_reduced_rows,
    "FAISS, lists found by a graph": of_lists_found_by_a_graph,
    "FAISS and newer rows": of_older_rows,
}


class OfMilvus:
    """Collections of a real server, one for each dimension, which hold the rows of one search after another."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses, self._collections, self._held = addresses, dict[int, Any](), dict[int, Ids]()

    def make(self, blocks: Sequence[VectorBlock]) -> VectorSearch:
        """A server that lacks the last third of the rows, and has some that were removed since."""
        before, newer = [], []
        for number, block in enumerate(blocks):
            cut = len(block.ids) * 2 // 3
            ids = block.ids[:cut].copy()
            ids[ids < 0] = 100_000 * (number + 1) + np.arange((ids < 0).sum())
            before.append(VectorBlock(ids, block.vectors[:cut]))
            newer.append(VectorBlock(block.ids[cut:], block.vectors[cut:]))
        return self._search(blocks, before, newer)

    def _search(
        self, now: Sequence[VectorBlock], held: Sequence[VectorBlock], newer: Sequence[VectorBlock]
    ) -> VectorSearch:
        from imgindex.search import milvus
        from imgindex.search.milvus_search import Candidates, MilvusSearch

        dimension = now[0].vectors.shape[1] if now else 24
        if dimension not in self._collections:
            made = self._collections[dimension] = milvus.Collection.connect(milvus_address(self._addresses()))
            made.create(milvus.Owner("of the contract", "of no index"), dimension, milvus.FLAT)
        collection = self._collections[dimension]
        collection.delete(self._held.get(dimension, np.empty(0, np.int64)))
        ids = np.concatenate([np.empty(0, np.int64), *(block.ids for block in held)])
        vectors = np.concatenate([np.empty((0, dimension), np.float32), *(block.vectors for block in held)])
        self._held[dimension] = ids[ids >= 0]
        collection.put(ids[ids >= 0], ids[ids >= 0], vectors[ids >= 0].astype(np.float32))
        ask = partial(collection.search, kind=milvus.FLAT, ef=0, strong=True)

        def find(wanted: Ids) -> list[VectorBlock]:
            return [replace(block, ids=np.where(np.isin(block.ids, wanted), block.ids, -1)) for block in now]

        candidates = Candidates(int((ids >= 0).sum()), milvus.MOST, ask)
        return MilvusSearch(candidates, find, newer, lambda: ExactSearch(now))


@pytest.fixture(scope="module")
def of_milvus(milvus_folder: Path) -> Iterator[OfMilvus]:
    with milvus_server.addresses(milvus_folder) as addresses:
        yield OfMilvus(addresses)


@pytest.fixture(params=[*SEARCHES, "Milvus and newer rows"])
def make(request: pytest.FixtureRequest) -> Make:
    if request.param in SEARCHES:
        return SEARCHES[request.param]
    of_milvus: OfMilvus = request.getfixturevalue("of_milvus")
    return of_milvus.make


@pytest.fixture(autouse=True)
def products_for_many_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let FAISS compute by matrix products, its way with many queries, for 50 of the tests' short vectors too."""
    monkeypatch.setattr(faiss.cvar, "distance_compute_blas_threshold", 40 * 24)


def one_block(ids: np.ndarray, vectors: np.ndarray) -> list[VectorBlock]:
    return [VectorBlock(ids, vectors)]


def several_blocks(ids: np.ndarray, vectors: np.ndarray) -> list[VectorBlock]:
    cuts = [0, 1, len(ids) // 3, len(ids) // 3, len(ids) - 1]
    return [VectorBlock(*part) for part in zip(np.split(ids, cuts), np.split(vectors, cuts), strict=True)]


BLOCKS: dict[str, Cut] = {"one block": one_block, "several blocks": several_blocks}


@pytest.fixture(params=BLOCKS.values(), ids=BLOCKS)
def cut(request: pytest.FixtureRequest) -> Cut:
    return request.param


def random(n: int, dimension: int = 24, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dimension)).astype(np.float32)


def numbers(n: int) -> np.ndarray:
    """Ids as a long life leaves them: rising, with gaps."""
    return np.arange(n, dtype=np.int64) * 3 + 1


def check(found: Neighbours, blocks: Sequence[VectorBlock], queries: np.ndarray, n: int) -> None:
    """Compare an answer with the exact one; where rows are equally near, any of them will do."""
    ids = np.concatenate([np.empty(0, np.int64), *(block.ids for block in blocks)])
    vectors = np.concatenate([np.empty((0, queries.shape[1])), *(block.vectors for block in blocks)])
    vectors, ids = vectors[ids >= 0].astype(np.float64), ids[ids >= 0]
    assert found.ids.shape == found.distances.shape == (len(queries), n)
    assert found.ids.dtype == np.int64
    assert found.distances.dtype == np.float32
    there = min(n, len(ids))
    assert (found.ids[:, there:] == -1).all()
    assert np.isinf(found.distances[:, there:]).all()
    rows = {id: row for row, id in enumerate(ids.tolist())}
    for query, of_query, distances in zip(queries, found.ids[:, :there], found.distances[:, :there], strict=True):
        exact = np.linalg.norm(vectors - query.astype(np.float64), axis=1)
        assert len(set(of_query.tolist())) == there, "an image was found twice"
        np.testing.assert_allclose(distances, np.sort(exact)[:there], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(distances, exact[[rows[id] for id in of_query.tolist()]], rtol=1e-5, atol=1e-5)
        order = sorted(zip(distances.tolist(), of_query.tolist(), strict=True))
        assert order == list(zip(distances.tolist(), of_query.tolist(), strict=True)), "not by distance, then id"


@pytest.mark.parametrize("queries", [1, 50])
@pytest.mark.parametrize("n", [1, 7, 200])
def test_the_nearest_rows_are_found(make: Make, cut: Cut, queries: int, n: int) -> None:
    blocks = cut(numbers(120), random(120))
    asked = random(queries, seed=1)
    check(make(blocks).search(asked, n), blocks, asked, n)


@pytest.mark.parametrize("queries", [1, 50])
def test_a_stored_row_finds_itself_at_distance_zero(make: Make, cut: Cut, queries: int) -> None:
    vectors = random(120)
    blocks = cut(numbers(120), vectors)
    found = make(blocks).search(vectors[:queries], 5)
    assert found.ids[:, 0].tolist() == numbers(120)[:queries].tolist()
    assert (found.distances[:, 0] == 0).all()
    check(found, blocks, vectors[:queries], 5)


@pytest.mark.parametrize("queries", [1, 50])
def test_duplicates_are_all_found_in_the_order_of_ids(make: Make, cut: Cut, queries: int) -> None:
    vectors = np.concatenate([np.repeat(random(1), 5, axis=0), random(60, seed=1)])
    blocks = cut(numbers(65), vectors)
    asked = np.repeat(vectors[:1], queries, axis=0)
    found = make(blocks).search(asked, 8)
    assert (found.ids[:, :5] == numbers(5)).all()
    assert (found.distances[:, :5] == 0).all()
    check(found, blocks, asked, 8)


@pytest.mark.parametrize("queries", [1, 50])
def test_more_duplicates_than_n_give_n_matches(make: Make, cut: Cut, queries: int) -> None:
    blocks = cut(numbers(100), np.repeat(random(1), 100, axis=0))
    asked = random(queries, seed=1)
    check(make(blocks).search(asked, 3), blocks, asked, 3)


@pytest.mark.parametrize("queries", [1, 50])
def test_missing_rows_are_never_found(make: Make, cut: Cut, queries: int) -> None:
    vectors, ids = random(120), numbers(120)
    ids[::2] = -1
    blocks = cut(ids, vectors)
    asked = vectors[:queries]
    found = make(blocks).search(asked, 70)
    check(found, blocks, asked, 70)
    assert set(found.ids.ravel().tolist()) == {-1, *ids.tolist()}


@pytest.mark.parametrize("queries", [1, 50])
def test_where_all_rows_are_missing_nothing_is_found(make: Make, cut: Cut, queries: int) -> None:
    blocks = cut(np.full(120, -1), random(120))
    check(make(blocks).search(random(queries, seed=1), 5), blocks, random(queries, seed=1), 5)


@pytest.mark.parametrize("blocks", [[], [VectorBlock(numbers(0), random(0))]], ids=["no block", "an empty block"])
def test_an_empty_index_has_no_neighbours(make: Make, blocks: list[VectorBlock]) -> None:
    check(make(blocks).search(random(2), 3), blocks, random(2), 3)


def test_ids_that_do_not_rise_with_the_rows_are_fine(make: Make, cut: Cut) -> None:
    blocks = cut(numbers(120)[::-1].copy(), random(120))
    check(make(blocks).search(random(4, seed=1), 9), blocks, random(4, seed=1), 9)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("queries", [1, 50])
def test_mapped_segments_are_searched_as_they_lie_on_disk(make: Make, tmp_path: Path, dtype: str, queries: int) -> None:
    segments = Segments(str(tmp_path), dimension=24, dtype=dtype, digest="ab" * 32)
    vectors = random(120)
    crcs = [segments.append(number, 0, part) for number, part in enumerate(np.split(vectors, 3), 1)]
    blocks = [VectorBlock(ids, segments.map(number, 40)) for number, ids in enumerate(np.split(numbers(120), 3), 1)]
    blocks[1].ids[5:9] = -1
    check(make(blocks).search(vectors[:queries], 9), blocks, vectors[:queries], 9)
    assert segments.read([Location(1, 1, 0, crcs[0][0])], segments.maps({1: 40})).shape == (1, 24)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("queries", [3, 30])
def test_rows_that_must_be_copied_are_so_piece_by_piece(
    make: Make, monkeypatch: pytest.MonkeyPatch, dtype: type, queries: int
) -> None:
    monkeypatch.setattr("imgindex.search.exact.COPIED_BYTES", 4 * 24 * 7)
    ids = numbers(120)
    ids[3:40:2] = -1
    ids[70:90] = -1
    blocks = [VectorBlock(ids, random(120).astype(dtype))]
    check(make(blocks).search(random(queries, seed=1), 9), blocks, random(queries, seed=1), 9)


@pytest.mark.parametrize("queries", [1, 50])
def test_long_vectors_close_together_are_distinguished(make: Make, cut: Cut, queries: int) -> None:
    """A burst of photos without L2 norm: to compute distances from dot products would be all rounding here."""
    vectors = 10 + random(300) * np.linspace(1e-4, 1e-2, 300, dtype=np.float32)[:, None]
    vectors = vectors[np.random.default_rng(2).permutation(300)]
    blocks = cut(numbers(300), vectors)
    asked = vectors[:queries]
    check(make(blocks).search(asked, 10), blocks, asked, 10)


def test_one_query_and_many_get_the_same_answer(make: Make) -> None:
    blocks = one_block(numbers(500), random(500))
    asked = random(40, seed=1)
    search = make(blocks)
    together = search.search(asked, 10)
    alone = [search.search(query[None], 10) for query in asked]
    np.testing.assert_array_equal(together.ids, np.concatenate([one.ids for one in alone]))
    np.testing.assert_array_equal(together.distances, np.concatenate([one.distances for one in alone]))


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_whatever_the_blocks_the_answer_is_exact(data: st.DataObject) -> None:
    check_any(data, SEARCHES.values())


@settings(deadline=None, max_examples=5)
@given(data=st.data())
def test_whatever_the_blocks_the_answer_of_a_server_is_exact(of_milvus: OfMilvus, data: st.DataObject) -> None:
    check_any(data, [of_milvus.make])


def check_any(data: st.DataObject, makes: Iterable[Make]) -> None:
    sizes = data.draw(st.lists(st.integers(0, 12), max_size=4))
    n, queries, seed = (
        data.draw(st.integers(1, 40)),
        data.draw(st.sampled_from([1, 3, 25])),
        data.draw(st.integers(0, 9)),
    )
    generator = np.random.default_rng(seed)
    # Few values in few dimensions: many rows are equally near.
    blocks, first = [], 1
    for size in sizes:
        ids = np.arange(first, first + size, dtype=np.int64)
        ids[generator.random(size) < 0.3] = -1
        dtype = data.draw(st.sampled_from([np.float32, np.float16]))
        blocks.append(VectorBlock(ids, generator.integers(-2, 3, (size, 2)).astype(dtype)))
        first += size
    asked = generator.integers(-2, 3, (queries, 2)).astype(np.float32)
    for make in makes:
        check(make(blocks).search(asked, n), blocks, asked, n)
