"""Hashes that differ in few bits, against the bits of all pairs."""

from __future__ import annotations

import numpy as np
import pytest

import imgindex.search.near_hashes
from imgindex.search.near_hashes import NearHashes


def with_flipped_bits(codes: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The codes (n,), each with so many of its bits flipped."""
    order = rng.permuted(np.tile(np.arange(64, dtype=np.uint64), (len(codes), 1)), axis=1)
    flips = np.where(np.arange(64) < counts[:, None], np.uint64(1) << order, np.uint64(0))
    return codes ^ np.bitwise_or.reduce(flips, axis=1)


@pytest.mark.parametrize("exhaustive", [10**6, 0], ids=["all", "tables"])
@pytest.mark.parametrize("bits", [0, 5, 12])
def test_all_hashes_within_the_bits_are_found_and_none_beyond(
    exhaustive: int, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imgindex.search.near_hashes, "EXHAUSTIVE", exhaustive)
    monkeypatch.setattr(imgindex.search.near_hashes, "QUERIES", 7)
    rng = np.random.default_rng(1)
    queries = rng.integers(0, 2**64, 30, dtype=np.uint64)
    # Of each query a hash at every distance up to 19 bits, so that some are just within and some just beyond.
    among = with_flipped_bits(np.repeat(queries, 20), np.tile(np.arange(20), 30), rng)
    differing = np.bitwise_count(queries[:, None] ^ among)
    found = list(NearHashes(among, bits=bits).each(queries))
    assert len(found) == len(queries)
    for row, (places, of_places) in zip(differing, found, strict=True):
        assert sorted(places.tolist()) == np.flatnonzero(row <= bits).tolist()
        assert of_places.tolist() == row[places].tolist()
        assert len(places) >= bits + 1


@pytest.mark.parametrize("exhaustive", [10**6, 0], ids=["all", "tables"])
def test_equal_hashes_are_all_found_and_the_top_bit_counts(exhaustive: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imgindex.search.near_hashes, "EXHAUSTIVE", exhaustive)
    among = np.array([7, 7, 7 | 1 << 63, 7 ^ 0b110], dtype=np.uint64)
    ((places, bits),) = NearHashes(among, bits=1).each(among[:1])
    assert dict(zip(places.tolist(), bits.tolist(), strict=True)) == {0: 0, 1: 0, 2: 1}


def test_without_queries_nothing_is_found() -> None:
    codes = np.array([1, 2], dtype=np.uint64)
    assert list(NearHashes(codes, bits=12).each(codes[:0])) == []
