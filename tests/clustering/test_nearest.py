"""Which device finds the nearest centroids: a GPU only where the work is worth it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kmeans_checks import blobs

from imgindex.clustering import nearest_torch
from imgindex.clustering.nearest import WORTH_A_GPU, on_device
from imgindex.encoders import devices
from imgindex.errors import DeviceUnavailable
from imgindex.vectors.rows import VectorRows

CPU = torch.device("cpu")


def test_a_processor_and_small_work_need_no_gpu() -> None:
    points = VectorRows.of(blobs(20, 4, 2))
    assert on_device(points, "cpu", 10 * WORTH_A_GPU) is points
    assert on_device(points, "auto", WORTH_A_GPU / 2) is points


def test_a_device_that_is_named_is_used_whatever_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "choose_device", lambda name: "cpu")
    points = VectorRows.of(blobs(200, 4, 2))
    centroids = points[np.array([0, 7, 9])]
    by_faiss, by_torch = points.nearest(centroids), on_device(points, "mps", 1).nearest(centroids)
    for found, right in zip(by_torch, by_faiss, strict=True):
        assert found.places == right.places
        assert np.array_equal(found.labels, right.labels)
        assert np.allclose(found.squares, right.squares, atol=1e-4)


def test_where_a_gpu_fails_only_auto_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object, **named: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(devices, "choose_device", lambda name: "cuda")
    monkeypatch.setattr(nearest_torch, "convolution", fail)
    monkeypatch.setattr(nearest_torch.torch, "device", lambda name: CPU)
    points = VectorRows.of(blobs(200, 4, 2))
    centroids = points[np.array([0, 7, 9])]
    (expected,) = points.nearest(centroids)
    (found,) = on_device(points, "auto", WORTH_A_GPU).nearest(centroids)
    assert np.array_equal(found.labels, expected.labels)
    with pytest.raises(DeviceUnavailable, match="no kernel image"):
        list(on_device(points, "cuda", WORTH_A_GPU).nearest(centroids))
