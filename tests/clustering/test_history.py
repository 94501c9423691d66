"""Clusterings that are kept: they come back as they were."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from imgindex import ImageIndex
from imgindex.results import LabelFormat


def test_a_clustering_comes_back_as_it_was_made(index: ImageIndex, kinds: Path) -> None:
    made = index.cluster(2, seed=7, label_format=LabelFormat(extras=("distance", "silhouette")))
    found = index.clusterings[made.id]
    for name in ("k", "seed", "objective", "restart_objectives", "converged", "sizes", "versions", "made_at", "paths"):
        assert getattr(found, name) == getattr(made, name), name
    for name in ("ids", "labels", "centroids"):
        np.testing.assert_array_equal(getattr(found, name), getattr(made, name))
    np.testing.assert_array_equal(found.fit.silhouettes, made.fit.silhouettes)
    assert found.recipe == "grid"
    assert found.trained_on == 18


def test_a_clustering_remembers_images_that_are_gone_or_have_moved(
    index: ImageIndex, kinds: Path, tmp_path: Path
) -> None:
    made = index.cluster(2)
    index.write_labels(made, tmp_path / "before.csv")
    os.rename(kinds / "red/red0.png", kinds / "red/other name.png")
    (kinds / "red/red1.png").unlink()
    index.add([kinds])
    index.remove([kinds / "green"])
    index.compact()
    index.write_labels(index.clusterings[made.id], tmp_path / "after.csv")
    assert (tmp_path / "before.csv").read_bytes() == (tmp_path / "after.csv").read_bytes()


def test_a_clustering_of_an_index_that_is_being_written_to_is_returned_but_not_stored(
    index: ImageIndex, kinds: Path
) -> None:
    kept = index.cluster(2)
    index.clusterings.rename_cluster(1, "greens")
    with index._store.writing():
        with ImageIndex.open(index.path) as other:
            found = other.cluster(2)
        assert found.id is None
        assert "another process" in found.not_kept
        assert [cluster.name for cluster in found.clusters] == [None, "greens"]
    assert [one.id for one in list(index.clusterings)] == [kept.id]
