"""The clusterings of an index by id: what is deleted is gone for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgindex import ImageIndex
from imgindex.errors import ClusteringNotFound


def test_the_id_of_a_deleted_clustering_is_never_used_again(index: ImageIndex, kinds: Path) -> None:
    index.cluster(2)
    index.clusterings.rename_cluster(0, "reds")
    index.clusterings.delete(1)
    with pytest.raises(ClusteringNotFound):
        _ = index.clusterings.newest
    found = index.cluster(2)
    assert found.id == 2
    with pytest.raises(ClusteringNotFound):
        index.clusterings.delete(7)
