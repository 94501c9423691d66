"""Clustered rows for the tests of FAISS's indexes, stored blocks of them, and searches among them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imgindex.search.faiss_build import Built
from imgindex.search.faiss_ivf import IvfSearch
from imgindex.types import VectorBlock

ROWS, DIMENSION = 20_000, 64


def clustered(n: int, *, seed: int = 0, dimension: int = DIMENSION) -> np.ndarray:
    """Rows around 200 centres that are the same for every seed."""
    centres = np.random.default_rng(7).standard_normal((200, dimension))
    generator = np.random.default_rng(seed)
    return (centres[generator.integers(0, 200, n)] + 0.5 * generator.standard_normal((n, dimension))).astype(np.float32)


def in_blocks(vectors: np.ndarray, *, first: int = 1) -> list[VectorBlock]:
    """Two blocks, with ids that rise and have gaps."""
    ids = np.arange(first, first + 3 * len(vectors), 3, dtype=np.int64)
    cut = len(vectors) * 2 // 3
    return [VectorBlock(ids[:cut], vectors[:cut]), VectorBlock(ids[cut:], vectors[cut:])]


def lengths(blocks: Sequence[VectorBlock]) -> list[int]:
    return [len(block.ids) for block in blocks]


def search(built: Built, now: Sequence[VectorBlock], covered: Sequence[VectorBlock]) -> IvfSearch:
    return IvfSearch(built.index, built.metadata, now, lengths(covered))
