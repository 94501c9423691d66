"""Which device finds the nearest centroids: a GPU only where the work is worth it."""

from __future__ import annotations

import numpy as np
from kmeans_checks import blobs

from imgindex.clustering.nearest import WORTH_A_GPU, on_device
from imgindex.vectors.rows import VectorRows


def test_a_processor_and_small_work_need_no_gpu() -> None:
    points = VectorRows.of(blobs(20, 4, 2))
    assert on_device(points, "cpu", 10 * WORTH_A_GPU) is points
    assert on_device(points, "auto", WORTH_A_GPU / 2) is points


def test_a_device_that_is_named_is_used_whatever_the_work() -> None:
    points = VectorRows.of(blobs(200, 4, 2))
    centroids = points[np.array([0, 7, 9])]
    labels, squares = on_device(points, "cpu", 1).nearest(centroids)(points[:])
    from imgindex.clustering.nearest_torch import nearest_on

    theirs, their_squares = nearest_on("cpu")(centroids)(points[:])
    assert np.array_equal(labels, theirs)
    assert np.allclose(squares, their_squares, atol=1e-4)
