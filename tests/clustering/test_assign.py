"""New images go into the clusters of a clustering that is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from colour_kinds import BLUES, GREENS, draw_kinds
from pictures import draw

from imgindex import ImageIndex
from imgindex.errors import ClusteringNotFound


def test_new_images_go_into_old_clusters_and_the_old_ones_stay(index: ImageIndex, kinds: Path, tmp_path: Path) -> None:
    made = index.cluster(2)
    index.clusterings.rename_cluster(1, "greens")
    draw_kinds(kinds, green=GREENS, blue=BLUES[:1])
    draw(kinds / "red/red9.png", (0, 222, 0))  # changed: it is a new one now
    index.add([kinds])
    found = index.clusterings.assign()
    assert {Path(one.path).name: one.name for one in found.assigned}.items() >= {
        "green8.png": "greens", "green9.png": "greens", "red9.png": "greens"
    }.items()  # fmt: skip
    assert len(found.assigned) == 4
    vectors = dict(zip(index.ids().tolist(), index.vectors(), strict=True))
    for one in found.assigned:
        distances = np.linalg.norm(made.centroids - vectors[one.id], axis=1)
        assert one.label == distances.argmin()
        assert one.distance == pytest.approx(distances.min(), rel=1e-4)
        assert one.margin == pytest.approx(distances.max() - distances.min(), rel=1e-3)
    before = dict(zip(made.ids.tolist(), made.labels.tolist(), strict=True))
    after = dict(zip(found.clustering.ids.tolist(), found.clustering.labels.tolist(), strict=True))
    changed = {id for id in before if before[id] != after[id]}
    assert [Path(dict(zip(made.ids.tolist(), made.paths, strict=True))[id]).name for id in changed] == ["red9.png"]
    assert found.clustering.sizes == (np.bincount(list(after.values())).tolist()[0], sum(after.values()))
    assert index.clusterings.assign().assigned == ()
    np.testing.assert_array_equal(index.clusterings.newest.labels, made.labels)


def test_without_a_clustering_there_is_nothing_to_assign_to(index: ImageIndex, kinds: Path) -> None:
    with pytest.raises(ClusteringNotFound, match="no clustering is kept"):
        index.clusterings.assign()
