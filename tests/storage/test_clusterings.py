"""Stored clusterings come back as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from grid_mean import GridMean

from imgindex import ImageIndex
from imgindex.storage import clusterings
from imgindex.storage.clusterings import ClusteringHeader, Membership, StoredClustering


def test_many_images_are_kept_and_read_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = np.cumsum(rng.integers(1, 9, 20_000))
    members = Membership(ids, rng.integers(50, size=20_000), rng.integers(2**32, size=20_000))
    with ImageIndex.create(tmp_path / "it", encoder=GridMean()) as index:
        paths = [str(tmp_path / f"a,'\n\udcff{number}.jpg") for number in range(20_000)]
        kept = StoredClustering(
            ClusteringHeader(0, "", {"k": 50}, tuple(range(1, 51))), rng.random((50, 12), np.float32), members, paths
        )
        with index._store.writing() as writer, writer.catalogue.atomic():
            header = clusterings.keep(writer.catalogue, kept)
        found = clusterings.read(index._store.catalogue, header.id)
        assert found.paths == paths
        for name in ("ids", "labels", "crcs"):
            np.testing.assert_array_equal(getattr(found.members, name), getattr(members, name))
        np.testing.assert_array_equal(found.centroids, kept.centroids)
