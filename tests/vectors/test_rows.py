"""Tests that k-means reads stored blocks as it reads a matrix."""

from __future__ import annotations

import numpy as np
import pytest
from vector_samples import blobs, in_blocks

from imgindex.clustering.kmeans import kmeans
from imgindex.errors import IndexDamaged
from imgindex.types import VectorBlock
from imgindex.vectors.rows import VectorRows


@pytest.mark.parametrize("offset", [0, 300])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_stored_blocks_are_clustered_as_the_matrix_in_the_order_of_ids(dtype: type, offset: float) -> None:
    vectors = (blobs(900, 80, 7) + np.float32(offset)).astype(dtype)
    whole = kmeans(vectors.astype(np.float32), 7)
    parts = kmeans(VectorRows.stored(in_blocks(vectors), 80), 7)
    np.testing.assert_array_equal(parts.labels, whole.labels)
    np.testing.assert_array_equal(parts.centroids, whole.centroids)
    assert parts.objective == whole.objective


def test_rows_that_lie_together_are_not_copied_and_others_keep_their_order() -> None:
    vectors = blobs(6000, 600, 3)
    for places, block in VectorRows.of(vectors).blocks():
        assert np.shares_memory(block, vectors)
        np.testing.assert_array_equal(block, vectors[places])
    chosen = np.array([5, 4, 17, 17, 0])
    np.testing.assert_array_equal(VectorRows.stored(in_blocks(vectors), 600)[chosen], vectors[chosen])


def test_a_damaged_block_is_refused_and_only_rows_of_images_are_checked() -> None:
    checked = []

    def check(rows: np.ndarray) -> None:
        checked.extend(rows.tolist())
        raise IndexDamaged("the vector of image 7 is damaged")

    with pytest.raises(IndexDamaged, match="image 7"):
        VectorRows.stored([VectorBlock(np.array([-1, 7, -1, 3]), blobs(4, 2, 1), check)], 2)
    assert checked == [1, 3]
