"""Labels as a table: an ImageID and a label a row, the columns that are asked for, and the names of clusters."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from imgindex import ImageIndex
from imgindex.clustering.labels import label_table
from imgindex.errors import UsageError
from imgindex.results import LabelFormat


def test_a_row_has_the_id_the_label_and_the_columns_that_were_asked_for(
    index: ImageIndex, kinds: Path, tmp_path: Path
) -> None:
    index.cluster(2)
    found = label_table(index._store, index.clusterings.newest, LabelFormat(extras=("distance", "silhouette")))
    assert found.columns == ["ImageID", "label", "distance", "silhouette"]
    assert len(found.rows) == 18
    paths = {row["path"]: row["label"] for row in found.data}
    assert paths[str(kinds / "red/red0.png")] != paths[str(kinds / "green/green0.png")]
    assert all(float(row["silhouette"]) > 0.5 for row in found.rows)
    index.write_labels(index.clusterings.newest, tmp_path / "labels.csv")
    with (tmp_path / "labels.csv").open(newline="") as file:
        written = [(row["ImageID"], row["label"]) for row in csv.DictReader(file)]
    assert written == [(row["ImageID"], row["label"]) for row in found.rows]


def test_a_named_cluster_has_its_name_in_the_data_and_the_columns_stay(index: ImageIndex, kinds: Path) -> None:
    index.cluster(2)
    index.clusterings.rename_cluster(0, "roses")
    found = label_table(index._store, index.clusterings.newest, LabelFormat())
    assert found.columns == ["ImageID", "label"]
    assert {row["name"] for row in found.data if row["label"] == "0"} == {"roses"}
    assert {row["name"] for row in found.data if row["label"] == "1"} == {None}


def test_two_images_with_one_id_are_refused(index: ImageIndex, kinds: Path) -> None:
    (kinds / "green/green0.png").rename(kinds / "green/red0.png")
    index.add([kinds])
    index.cluster(2)
    with pytest.raises(UsageError, match="red0"):
        label_table(index._store, index.clusterings.newest, LabelFormat())
