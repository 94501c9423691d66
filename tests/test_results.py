"""Results as plain data: which duplicates can be deleted, and a clustering as a table of pandas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from imgindex import ImageIndex


def test_only_an_unchanged_copy_of_a_readable_image_is_disposable(index: ImageIndex, folder: Path) -> None:
    (folder / "copy.png").write_bytes((folder / "a/0.png").read_bytes())
    index.add([folder])
    (group,) = index.duplicates(exact=True).groups
    (other,) = group.others
    assert group.images == (group.kept, other)
    assert group.disposable == (other,)
    assert not replace(other, problem="changed since it was added").disposable
    assert not replace(other, how="same file").disposable
    assert replace(group, kept=replace(group.kept, problem="No such file")).disposable == ()


def test_a_clustering_is_a_data_frame_with_a_row_an_image(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    index.cluster(2)
    clustering = index.clusterings.newest
    frame = clustering.to_frame()
    assert frame.columns.tolist() == ["id", "path", "label"]
    assert frame["path"].tolist() == clustering.paths
    assert frame["label"].tolist() == clustering.labels.tolist()
    index.clusterings.rename_cluster(0, "roses")
    named = index.clusterings.newest.to_frame()
    assert set(named["name"][named["label"] == 0]) == {"roses"}
    assert set(named["name"][named["label"] == 1]) == {""}
