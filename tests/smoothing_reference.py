"""Averaged vectors as a plain loop over rows, for the tests to compare with."""

from __future__ import annotations

import numpy as np


def nearest_others(vectors: np.ndarray, ids: np.ndarray, query: np.ndarray, own: int = -1) -> list[int]:
    """The places of the 8 nearest vectors, ties by id, without that of the id `own`."""
    differences = vectors.astype(np.float64) - query.astype(np.float64)
    distances = np.sqrt((differences**2).sum(axis=1)).astype(np.float32)
    return [place for place in np.lexsort((ids, distances)).tolist() if ids[place] != own][:8]


def averaged(query: np.ndarray, others: np.ndarray, *, unit: bool) -> np.ndarray:
    """The average of a vector with others, each with the weight cos³, but none below 0."""
    query, total, weights = query.astype(np.float64), query.astype(np.float64), 1.0
    for other in others.astype(np.float64):
        lengths = np.linalg.norm(query) * np.linalg.norm(other)
        weight = max(0.0, float(query @ other) / lengths) ** 3 if lengths else 0.0
        total, weights = total + weight * other, weights + weight
    if not unit:
        return (total / weights).astype(np.float32)
    return (total / (np.linalg.norm(total) or 1)).astype(np.float32)


def all_averaged(vectors: np.ndarray, ids: np.ndarray, *, unit: bool) -> np.ndarray:
    """The averages of all vectors (n, d), each with its nearest others."""
    rows = [
        averaged(vector, vectors[nearest_others(vectors, ids, vector, own)], unit=unit)
        for vector, own in zip(vectors, ids.tolist(), strict=True)
    ]
    return np.array(rows, np.float32).reshape(vectors.shape)
