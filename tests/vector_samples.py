"""Random vectors that the tests share: clustered ones, and stored blocks of them."""

from __future__ import annotations

import numpy as np

from imgindex.types import VectorBlock


def blobs(n: int, d: int, k: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((k, d))[rng.integers(k, size=n)] + rng.standard_normal((n, d))).astype(np.float32)


def in_blocks(vectors: np.ndarray, seed: int = 0) -> list[VectorBlock]:
    """Return the vectors in three blocks and an empty one, ids in no order, among rows that belong to no image."""
    rng = np.random.default_rng(seed)
    blocks = [VectorBlock(np.empty(0, np.int64), vectors[:0])]
    for ids in np.array_split(rng.permutation(len(vectors)), 3):
        present = np.sort(rng.choice(2 * len(ids), len(ids), replace=False))
        rows, numbers = np.full((2 * len(ids), vectors.shape[1]), np.nan, vectors.dtype), np.full(2 * len(ids), -1)
        rows[present], numbers[present] = vectors[ids], ids
        blocks.append(VectorBlock(numbers, rows))
    return blocks
