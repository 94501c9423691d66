"""Candidates of a server, joined with the rows as they are now; the server is a function that compares all rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from imgindex.search.exact import ExactSearch
from imgindex.search.milvus_search import Candidates, MilvusSearch
from imgindex.types import Ids, Neighbours, VectorBlock, Vectors

ROWS, DIMENSION = 400, 8


def random(n: int, *, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).standard_normal((n, DIMENSION)).astype(np.float32)


class Server:
    """Has these rows, returns at most `most` of them, and remembers how many it was asked for."""

    def __init__(self, ids: Ids, vectors: Vectors, *, most: int = 1000, gives: int = 1000) -> None:
        self._exact, self.most, self._gives, self.asked = ExactSearch([VectorBlock(ids, vectors)]), most, gives, []
        self.candidates = Candidates(len(ids), most, self._ask)

    def _ask(self, queries: Vectors, n: int) -> Ids:
        self.asked.append(n)
        assert n <= self.most
        found = self._exact.search(queries, n).ids
        found[:, self._gives :] = -1
        return found


def search(
    server: Server, now: VectorBlock, newer: list[VectorBlock] | None = None, only: Ids | None = None
) -> tuple[MilvusSearch, list[str]]:
    """The search of a server, and a list that grows each time an exact search is made."""
    exact: list[str] = []

    def find(ids: Ids) -> list[VectorBlock]:
        kept = np.isin(now.ids, ids)
        return [VectorBlock(now.ids[kept], now.vectors[kept])] if kept.any() else []

    def make_exact() -> ExactSearch:
        exact.append("made")
        ids = now.ids if only is None else np.where(np.isin(now.ids, only), now.ids, -1)
        return ExactSearch([VectorBlock(ids, now.vectors)])

    return MilvusSearch(server.candidates, find, newer or [], make_exact, only), exact


def same(found: Neighbours, block: VectorBlock, queries: Vectors, n: int) -> None:
    wanted = ExactSearch([block]).search(queries, n)
    np.testing.assert_array_equal(found.ids, wanted.ids)
    np.testing.assert_array_equal(found.distances, wanted.distances)


@pytest.fixture
def block() -> VectorBlock:
    return VectorBlock(np.arange(1, ROWS + 1), random(ROWS))


def test_a_few_candidates_more_than_n_are_asked_for(block: VectorBlock) -> None:
    server = Server(block.ids, block.vectors)
    made, exact = search(server, block)
    same(made.search(random(30, seed=1), 10), block, random(30, seed=1), 10)
    assert (server.asked, exact) == ([18], [])


def test_more_are_asked_for_where_too_few_are_present(block: VectorBlock) -> None:
    """The server still has the nearest rows, which were removed since: only queries that need more ask for more."""
    server = Server(block.ids, block.vectors)
    query = random(1, seed=1)
    near = ExactSearch([block]).search(query, 100).ids[0]
    kept = ~np.isin(block.ids, near)
    now = VectorBlock(block.ids[kept], block.vectors[kept])
    queries = np.vstack([query, -query])
    made, exact = search(server, now)
    same(made.search(queries, 5), now, queries, 5)
    assert (server.asked[0], exact) == (13, [])
    assert len(server.asked) == 3


def test_where_the_server_returns_no_more_the_rows_are_compared_here(block: VectorBlock) -> None:
    """It returns at most 20 rows, or fewer than it has: of a graph a part may be out of reach."""
    for server in (Server(block.ids, block.vectors, most=20), Server(block.ids, block.vectors, gives=9)):
        made, exact = search(server, block)
        same(made.search(random(3, seed=1), 10), block, random(3, seed=1), 10)
        same(made.search(random(3, seed=1), 25), block, random(3, seed=1), 25)
        assert exact == ["made"]


def test_n_may_be_more_than_there_are_rows(block: VectorBlock) -> None:
    server = Server(block.ids[:7], block.vectors[:7])
    now = VectorBlock(block.ids[:7], block.vectors[:7])
    made, exact = search(server, now)
    same(made.search(random(3, seed=1), 10), now, random(3, seed=1), 10)
    assert exact == []


def test_rows_that_another_process_sent_meanwhile_take_no_place(block: VectorBlock) -> None:
    """The state that is read says 20 rows; the server has 100 by now, most of them nearer."""
    query = random(1, seed=1)
    order = ExactSearch([block]).search(query, ROWS).ids[0]
    now = VectorBlock(order[80:100], block.vectors[order[80:100] - 1])
    server = Server(order[:100], block.vectors[order[:100] - 1])
    server.candidates = replace(server.candidates, rows=20)
    made, exact = search(server, now)
    same(made.search(query, 18), now, query, 18)
    assert exact == []


def test_newer_rows_are_compared_here_and_no_row_is_found_twice(block: VectorBlock) -> None:
    """Rows 300 … are not in the server, and row 1 has another vector there."""
    old = block.vectors[:300].copy()
    old[0] = block.vectors[350]
    server = Server(block.ids[:300], old)
    newer = [VectorBlock(block.ids[300:], block.vectors[300:]), VectorBlock(block.ids[:1], block.vectors[:1])]
    made, _ = search(server, block, newer)
    queries = np.vstack([block.vectors[:3], block.vectors[350:353], random(20, seed=1)])
    same(made.search(queries, 10), block, queries, 10)


def test_a_selection_is_found_whole(block: VectorBlock) -> None:
    only = block.ids[::7]
    server = Server(block.ids, block.vectors)
    made, exact = search(server, block, only=only)
    ids = np.where(np.isin(block.ids, only), block.ids, -1)
    for n in (1, 10, 50):
        same(made.search(random(20, seed=1), n), VectorBlock(ids, block.vectors), random(20, seed=1), n)
    assert exact == []
    assert server.asked[0] == 9 * ROWS // len(only) + 1


def test_a_server_without_rows_is_not_asked(block: VectorBlock) -> None:
    server = Server(block.ids[:0], block.vectors[:0])
    made, exact = search(server, block, [block])
    same(made.search(random(3, seed=1), 10), block, random(3, seed=1), 10)
    assert (server.asked, exact) == ([], [])


def test_many_queries_are_asked_in_parts_that_fit_in_memory(block: VectorBlock) -> None:
    server = Server(block.ids, block.vectors)
    made, _ = search(server, block)
    same(made.search(random(3000, seed=1), 10), block, random(3000, seed=1), 10)
    assert len(server.asked) == 4
