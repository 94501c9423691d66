"""A shard of the rows, tried in this process: the sums of all shards are those of one machine."""

from __future__ import annotations

import numpy as np
import pytest
from kmeans_checks import blobs

from imgindex.clustering.lloyd import Lloyd
from imgindex.clustering.shard import Shards, whole_blocks
from imgindex.vectors.rows import VectorRows


@pytest.mark.parametrize(("n", "d", "count"), [(20_000, 8, 3), (4096, 8, 3), (5000, 4096, 4), (9000, 3, 1), (5, 2, 9)])
def test_shards_are_whole_blocks_as_equal_as_they_can_be(n: int, d: int, count: int) -> None:
    points = VectorRows.of(np.zeros((n, d), np.float32))
    blocks, places = list(points.slices()), whole_blocks(points, count)
    assert len(places) == min(count, len(blocks))
    assert [place.start for place in places] == [0, *(place.stop for place in places[:-1])]
    assert places[-1].stop == n
    assert {place.start for place in places} <= {block.start for block in blocks}
    sizes = [sum(place.start <= block.start < place.stop for block in blocks) for place in places]
    assert max(sizes) - min(sizes) <= 1


def make(points: VectorRows, k: int, shards: int) -> tuple[Shards, list[slice]]:
    made = Shards(k=k, origin=points.origin, device="cpu", work=1.0)
    places = list(whole_blocks(points, shards))
    for number, place in enumerate(places):
        rows = points.raw(place)
        for part in np.array_split(rows, 3):  # they come in parts, which need not be blocks
            made.on(number, "extend", part)
        made.on(number, "begin", None)
    return made, places


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_steps_of_all_shards_add_up_to_those_of_one_machine(dtype: type) -> None:
    vectors = blobs(20_000, 16, 5).astype(dtype)
    points = VectorRows.of(vectors)
    one = Lloyd(points, 5)
    one.centroids = points[np.array([0, 7000, 9, 19_000, 12])]
    shards, _ = make(points, 5, 3)
    for _ in range(4):
        one.assign()
        found = [shards.on(number, "assign", one.centroids.copy()) for number in range(3)]
        assert sum(part.moved for part in found) == one.moved
        assert np.array_equal(np.sum([part.sizes for part in found], axis=0), one.sizes)
        np.testing.assert_allclose(np.sum([part.sums for part in found], axis=0), one.sums, rtol=1e-12)
        assert sum(part.objective for part in found) == pytest.approx(one.objective, rel=1e-12)
        labels = np.concatenate([shards.on(number, "labels") for number in range(3)])
        assert np.array_equal(labels, one.labels)
        squares = sum(shards.on(number, "squares", one.centroids) for number in range(3))
        assert squares == pytest.approx(one.exact_objective(), rel=1e-12)
        one.update()


def test_a_shard_that_is_sent_again_has_the_labels_that_were_lost() -> None:
    points = VectorRows.of(blobs(9000, 6, 4))
    centroids = points[np.array([3, 4000, 8000, 100])]
    shards, places = make(points, 4, 2)
    before = shards.on(1, "assign", centroids)
    again = Shards(k=4, origin=points.origin, device="cpu", work=1.0)
    again.on(1, "extend", points.raw(places[1]))
    again.on(1, "begin", ("assign", centroids))
    assert np.array_equal(again.on(1, "labels"), shards.on(1, "labels"))
    moved = centroids + np.float32(0.1)
    expected, found = shards.on(1, "assign", moved), again.on(1, "assign", moved)
    assert before.moved == 9000 - places[1].start
    assert (found.moved, found.objective) == (expected.moved, expected.objective)
    np.testing.assert_allclose(found.sums, expected.sums, rtol=1e-12)


def test_a_worker_says_how_many_threads_compute() -> None:
    assert Shards(k=1, origin=np.zeros(2, np.float32), device="cpu", work=1.0).describe() >= 1
