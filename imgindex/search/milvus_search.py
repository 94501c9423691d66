"""Searches with Milvus: it proposes candidates, true distances from the segments decide, newer rows are compared here.

Whatever Milvus holds, an answer is made of the rows as they are now, as with FAISS. An image that was removed is not
among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from imgindex.search.exact import SPARE, ExactSearch, nearest, true_distances
from imgindex.types import Ids, Neighbours, VectorBlock, Vectors, VectorSearch

# Candidates that are asked for at once, for all queries together: so many rows are then in memory.
AT_ONCE = 1 << 14
# How many times as many candidates are asked for where too few of them are present.
MORE = 4


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a server has, and how it is asked.

    rows: how many it holds. most: how many it returns for a query. ask: returns the ids (q, n) of the rows nearest to
    queries (q, dimension), nearest first, −1 where there are fewer.
    """

    rows: int
    most: int
    ask: Callable[[Vectors, int], Ids]


class MilvusSearch:
    """Searches the candidates of a server and, exactly, the rows that it lacks; implements `VectorSearch`."""

    def __init__(
        self,
        candidates: Candidates,
        find: Callable[[Ids], Sequence[VectorBlock]],
        newer: Sequence[VectorBlock],
        exact: Callable[[], VectorSearch],
        only: Ids | None = None,
    ) -> None:
        """Join candidates with the rows as they are now.

        find: returns the rows of those of some ids (rising) that are present. newer: the rows that the server lacks, or
        has with another vector. exact: makes an exact search among all rows, or those of `only`, for queries whose n
        nearest the server cannot tell. only: ids, rising; no others are found.
        """
        self._candidates, self._find, self._only = candidates, find, only
        self._newer = ExactSearch(newer)
        self._newer_ids = np.concatenate([np.empty(0, np.int64), *(block.ids for block in newer)])
        self._make_exact = exact
        self._exact: VectorSearch | None = None

    def search(self, queries: Vectors, n: int) -> Neighbours:
        """Return the n nearest rows of float32 queries (q, dimension), ties by id; id -1 where there are fewer."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        rows, most = self._candidates.rows, self._candidates.most
        ids = np.full((len(queries), n), -1, np.int64)
        distances = np.full((len(queries), n), np.inf, np.float32)
        wanted = n + SPARE
        if self._only is not None:
            wanted = math.ceil(wanted * rows / max(1, len(self._only)))
        todo, left = (np.arange(len(queries)), []) if wanted <= most else (np.arange(0), [np.arange(len(queries))])
        while rows and len(todo):
            again = []
            for part in np.split(todo, range(max(1, AT_ONCE // wanted), len(todo), max(1, AT_ONCE // wanted))):
                found = self._candidates.ask(queries[part], wanted)
                ids[part], distances[part] = self._nearest(queries[part], found, n)
                returned = (found >= 0).sum(axis=1)
                # A server that returns fewer than were asked for has no others: they are all rows, or a part of its
                # graph is out of reach.
                short = (ids[part, -1] < 0) & ((returned == wanted) | (returned < rows))
                more = short & (returned == wanted) & (wanted < most)
                again.append(part[more])
                left.append(part[short & ~more])
            todo, wanted = np.concatenate(again), min(MORE * wanted, most)
        if len(self._newer_ids):
            newer = self._newer.search(queries, n)
            ids, distances = nearest(np.hstack([newer.ids, ids]), np.hstack([newer.distances, distances]), n)
        if len(others := np.concatenate([np.arange(0), *left])):
            self._exact = self._exact or self._make_exact()
            found_exactly = self._exact.search(queries[others], n)
            ids[others], distances[others] = found_exactly.ids, found_exactly.distances
        return Neighbours(ids, distances)

    def _nearest(self, queries: Vectors, candidates: Ids, n: int) -> tuple[Ids, Vectors]:
        """Return the n nearest (q, n) of candidates (q, k), with their true distances; −1 where too few are present."""
        asked = np.unique(candidates[candidates >= 0])
        if len(self._newer_ids):
            asked = asked[~np.isin(asked, self._newer_ids)]
        if self._only is not None:
            asked = asked[np.isin(asked, self._only)]
        ids: Ids = np.full((len(queries), n), -1, np.int64)
        distances: Vectors = np.full((len(queries), n), np.inf, np.float32)
        for block in self._find(asked) if len(asked) else ():
            present = np.flatnonzero(block.ids >= 0)
            if not len(present):
                continue
            block.check(present)
            order = present[np.argsort(block.ids[present])]
            at = order[np.searchsorted(block.ids[order], candidates).clip(max=len(order) - 1)]
            rows = np.where((candidates >= 0) & (block.ids[at] == candidates), at, -1)
            of_block = true_distances(block, queries, rows)
            found = np.where(rows >= 0, candidates, -1)
            ids, distances = nearest(np.hstack([ids, found]), np.hstack([distances, of_block]), n)
        return ids, distances
