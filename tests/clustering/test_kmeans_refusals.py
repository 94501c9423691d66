"""Tests what k-means refuses, and in which words."""

from __future__ import annotations

import numpy as np
import pytest

from imgindex.clustering.kmeans import kmeans
from imgindex.errors import TooFewDistinctVectors, UsageError


def blobs(n: int, d: int, k: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((k, d))[rng.integers(k, size=n)] + rng.standard_normal((n, d))).astype(np.float32)


@pytest.mark.parametrize("k", [0, -1, 2.0, "3", None, True])
def test_k_must_be_a_positive_whole_number(k: object) -> None:
    with pytest.raises(UsageError, match="k must be a whole number"):
        kmeans(blobs(9, 3, 2), k)  # type: ignore[arg-type]


def test_numpy_integers_are_whole_numbers() -> None:
    assert len(kmeans(blobs(9, 3, 2), np.int32(2)).sizes) == 2


@pytest.mark.parametrize("arguments", [{"seed": -1}, {"seed": 1.5}, {"restarts": 0}, {"iterations": 0}])
def test_impossible_arguments_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(arguments))):
        kmeans(blobs(9, 3, 2), 2, **arguments)


def test_too_few_vectors() -> None:
    with pytest.raises(TooFewDistinctVectors, match="k=10 is more than the number of vectors, 9"):
        kmeans(blobs(9, 3, 2), 10)
    with pytest.raises(TooFewDistinctVectors, match="k=1 is more than the number of vectors, 0"):
        kmeans(np.empty((0, 3), np.float32), 1)
    with pytest.raises(TooFewDistinctVectors, match="k=5 is more than the number of distinct vectors, 3"):
        kmeans(np.repeat(blobs(3, 4, 3), 20, axis=0), 5)
    with pytest.raises(TooFewDistinctVectors, match="number of distinct vectors, 1 among 2"):
        kmeans(np.array([[0.0], [-0.0]], np.float32), 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_counted(bad: float) -> None:
    vectors = blobs(30, 5, 2)
    vectors[[3, 7], [0, 4]] = bad
    vectors[7, 1] = -bad
    with pytest.raises(UsageError, match="vectors that hold NaN or infinity: 2 of 30"):
        kmeans(vectors, 2)


@pytest.mark.parametrize("vectors", [np.zeros(5), np.zeros((5, 0)), np.zeros((5, 2, 2))])
def test_vectors_must_be_a_matrix(vectors: np.ndarray) -> None:
    with pytest.raises(UsageError, match="matrix"):
        kmeans(vectors, 2)


def test_vectors_out_of_float32s_reach() -> None:
    for factor in (1e17, 1e-17):
        with pytest.raises(UsageError, match="too small or too large"):
            kmeans(blobs(20, 3, 2) * np.float32(factor), 2)


@pytest.mark.parametrize("init", [np.zeros((2, 4)), np.zeros((3, 3)), np.full((2, 3), np.nan)])
def test_init_must_fit(init: np.ndarray) -> None:
    with pytest.raises(UsageError, match="init"):
        kmeans(blobs(9, 3, 2), 2, init=init)
