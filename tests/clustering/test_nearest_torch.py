"""Torch finds the same centroids as BLAS; on a GPU, which is replaced here, the rows stay in its memory."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from vector_samples import blobs

from imgindex.clustering import nearest_torch
from imgindex.clustering.kmeans import kmeans
from imgindex.clustering.nearest_torch import NearestByTorch
from imgindex.errors import DeviceUnavailable
from imgindex.vectors import rows as vector_rows
from imgindex.vectors.rows import Finder, VectorRows, nearest_by_faiss


def found_by(finder: Finder, points: VectorRows, centroids: Any) -> tuple[Any, Any]:
    blocks = list(finder(points, centroids))
    assert [block.places for block in blocks] == list(points.slices())
    return np.concatenate([block.labels for block in blocks]), np.concatenate([block.squares for block in blocks])


def test_torch_finds_the_nearest_centroids_that_faiss_finds() -> None:
    vectors, centroids = blobs(2000, 100, 20), blobs(30, 100, 20, seed=1)
    vectors.flags.writeable = False  # as in a map
    points = VectorRows.of(vectors)
    labels, squares = found_by(nearest_by_faiss, points, centroids)
    by_torch, their_squares = found_by(NearestByTorch("cpu"), points, centroids)
    np.testing.assert_array_equal(by_torch, labels)
    np.testing.assert_allclose(their_squares, squares, rtol=1e-4, atol=1e-3)
    exact = ((vectors[:, None].astype(np.float64) - centroids) ** 2).sum(axis=2)
    np.testing.assert_array_equal(labels, exact.argmin(axis=1))


def test_k_means_by_torch_ends_where_k_means_by_faiss_ends() -> None:
    points = VectorRows.of(blobs(3000, 200, 12))
    by_torch = kmeans(replace(points, finder=NearestByTorch("cpu")), 12)
    by_blas = kmeans(points, 12)
    np.testing.assert_array_equal(by_torch.labels, by_blas.labels)
    assert by_torch.objective == pytest.approx(by_blas.objective, rel=1e-6)


class Gpu:
    """Replaces a GPU by the processor. copied: rows that were copied there; free: bytes of its memory.

    error: raised for a comparison of more than `room` rows.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.copied, self.free, self.room = 0, 1 << 40, 1 << 40
        self.error: Exception = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.compared: list[int] = []
        device, tensor, empty, convolution = torch.device, torch.tensor, torch.empty, nearest_torch.convolution

        def copied(rows: Any, *, device: Any) -> Tensor:
            self.copied += len(rows) if rows.shape[0] > 40 else 0  # fewer are the centroids
            return tensor(rows)

        def compared(maps: Tensor, kernels: Tensor) -> Tensor:
            self.compared.append(len(maps))
            if len(maps) > self.room:
                raise self.error
            return convolution(maps, kernels)

        def made(shape: Any, *, device: Any) -> Tensor:
            return empty(shape)

        monkeypatch.setattr(nearest_torch.torch, "tensor", copied)
        monkeypatch.setattr(nearest_torch.torch, "empty", made)
        monkeypatch.setattr(nearest_torch, "convolution", compared)
        monkeypatch.setattr(nearest_torch, "free_memory", lambda given: self.free)
        self.device = device("cuda", 0)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    monkeypatch.setattr(vector_rows, "BLOCK_ROWS", 256)
    return Gpu(monkeypatch)


POINTS = blobs(1000, 20, 8)
CENTROIDS = blobs(8, 20, 8, seed=1)


def test_rows_that_fit_are_copied_once_and_then_compared_together(gpu: Gpu) -> None:
    points = VectorRows.of(POINTS)
    finder = NearestByTorch("cuda:0")
    expected = found_by(nearest_by_faiss, points, CENTROIDS)
    for _ in range(3):
        labels, squares = found_by(finder, points, CENTROIDS)
        np.testing.assert_array_equal(labels, expected[0])
        np.testing.assert_allclose(squares, expected[1], rtol=1e-4, atol=1e-3)
    assert gpu.copied == 1000
    assert gpu.compared == [1000] * 3
    assert all(block.rows is None for block in finder(points, CENTROIDS)), "no row is read again"


def test_other_points_with_the_same_finder_have_their_own_rows(gpu: Gpu) -> None:
    points = replace(VectorRows.of(POINTS), finder=NearestByTorch("cuda:0"))
    for some in (points, points.take(np.arange(900, 100, -1)), replace(points, origin=POINTS.mean(axis=0)), points):
        labels, squares = found_by(some.finder, some, CENTROIDS)
        expected = found_by(nearest_by_faiss, some, CENTROIDS)
        np.testing.assert_array_equal(labels, expected[0])
        np.testing.assert_allclose(squares, expected[1], rtol=1e-4, atol=1e-3)


def test_rows_that_do_not_fit_are_copied_block_by_block_in_each_step(gpu: Gpu) -> None:
    gpu.free = POINTS.nbytes
    points, finder = VectorRows.of(POINTS), NearestByTorch("cuda:0")
    for _ in range(2):
        found_by(finder, points, CENTROIDS)
    assert gpu.copied == 2000
    assert gpu.compared == [256, 256, 256, 232] * 2


def test_k_means_is_the_same_where_the_rows_stay_on_the_gpu(gpu: Gpu) -> None:
    points = VectorRows.of(blobs(3000, 40, 12)).take(np.arange(2999, 99, -1))
    on_gpu = kmeans(replace(points, finder=NearestByTorch("cuda:0")), 12)
    assert gpu.copied == len(points), "rows are copied once in the whole run"
    here = kmeans(points, 12)
    np.testing.assert_array_equal(on_gpu.labels, here.labels)
    np.testing.assert_allclose(on_gpu.centroids, here.centroids, atol=1e-4)
    assert on_gpu.objective == pytest.approx(here.objective, rel=1e-6)


def test_where_memory_runs_out_the_rows_do_not_stay(gpu: Gpu, caplog: pytest.LogCaptureFixture) -> None:
    gpu.room = 256
    points, finder = VectorRows.of(POINTS), NearestByTorch("cuda:0")
    with caplog.at_level(logging.INFO):
        labels, _ = found_by(finder, points, CENTROIDS)
    np.testing.assert_array_equal(labels, found_by(nearest_by_faiss, points, CENTROIDS)[0])
    assert "the rows do not stay on cuda:0" in caplog.text
    assert gpu.compared == [1000, 256, 256, 256, 232]
    found_by(finder, points, CENTROIDS)
    assert gpu.compared[5:] == [256, 256, 256, 232], "it is not tried again"


def test_without_memory_for_the_rows_they_do_not_stay(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(shape: Any, *, device: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(nearest_torch.torch, "empty", fail)
    points = VectorRows.of(POINTS)
    labels, _ = found_by(NearestByTorch("cuda:0"), points, CENTROIDS)
    np.testing.assert_array_equal(labels, found_by(nearest_by_faiss, points, CENTROIDS)[0])


@pytest.mark.parametrize("words", ["CUDA out of memory.", "CUDA error: unspecified launch failure"])
def test_a_gpu_that_fails_is_an_error_or_the_rest_is_found_here(
    gpu: Gpu, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.room, gpu.free, gpu.error = 240, 0, RuntimeError(words)
    points = VectorRows.of(POINTS).take(np.arange(999, -1, -1))
    with pytest.raises(DeviceUnavailable, match=f"cuda:0: {words}") as error:
        list(NearestByTorch("cuda:0")(points, CENTROIDS))
    assert "`device=cpu`" in error.value.hint
    finder = NearestByTorch("cuda:0", instead=nearest_by_faiss)
    labels, _ = found_by(finder, points, CENTROIDS)
    np.testing.assert_array_equal(labels, found_by(nearest_by_faiss, points, CENTROIDS)[0])
    assert "k-means on the CPU instead of a GPU: cuda:0" in caplog.text
    gpu.compared.clear()
    found_by(finder, points, CENTROIDS)
    assert gpu.compared == [], "the GPU is not tried again"


def test_the_programs_own_errors_are_raised_as_they_are(gpu: Gpu) -> None:
    gpu.room, gpu.error = 0, RuntimeError("expected scalar type Float")
    with pytest.raises(RuntimeError, match="expected scalar type") as error:
        list(NearestByTorch("cuda:0", instead=nearest_by_faiss)(VectorRows.of(POINTS), CENTROIDS))
    assert not isinstance(error.value, DeviceUnavailable)
