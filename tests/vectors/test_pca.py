"""The reduction of long rows: it keeps distances, is taken only where it does, and leaves the sample as it was."""

from __future__ import annotations

import numpy as np
import pytest

from imgindex.vectors import pca
from imgindex.vectors.pca import faiss_reduction


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pca, "REDUCTIONS", ((16, 0.8),))


def rows(n: int, latent: int, dimension: int = 100, *, noise: float = 0.01) -> np.ndarray:
    generator = np.random.default_rng(0)
    found = 3 + generator.standard_normal((n, latent)) @ generator.standard_normal((latent, dimension))
    return (found + noise * generator.standard_normal((n, dimension))).astype(np.float32)


def test_distances_stay_what_they_were() -> None:
    sample = rows(300, 10)
    before = sample.copy()
    transform = faiss_reduction(sample, seed=0)
    np.testing.assert_allclose(sample, before, atol=1e-5)
    short = transform.apply(before)
    assert short.shape == (300, 16)
    np.testing.assert_allclose(
        np.linalg.norm(short[1:] - short[:-1], axis=1), np.linalg.norm(before[1:] - before[:-1], axis=1), rtol=1e-3
    )
    assert abs(short.mean()) < 1e-3


def test_the_components_are_those_of_an_exact_decomposition() -> None:
    sample = rows(300, 20, noise=1.0)
    centred = sample - sample.mean(axis=0)
    exact = np.linalg.svd(centred, compute_uv=False)[:16]
    short = faiss_reduction(sample, seed=0)
    found = np.linalg.norm(short.apply(sample), axis=0)
    np.testing.assert_allclose(found, exact, rtol=0.01)


@pytest.mark.parametrize(
    "sample",
    [rows(300, 90, noise=1.0), rows(63, 10), rows(300, 10, dimension=32), np.ones((300, 100), np.float32)],
    ids=["spread over all numbers", "few rows", "short rows", "all the same"],
)
def test_rows_that_gain_nothing_are_not_reduced(sample: np.ndarray) -> None:
    before = sample.copy()
    assert faiss_reduction(sample, seed=0) is None
    np.testing.assert_allclose(sample, before, atol=1e-5)


def test_one_seed_one_reduction() -> None:
    one, two = (faiss_reduction(rows(300, 10), seed=1).apply(rows(20, 10)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
