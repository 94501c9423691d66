"""Parquet files, read back with pyarrow."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from grid_mean import GridMean
from pictures import draw
from PIL import Image

import imgindex.export.run
from imgindex import ImageIndex
from imgindex.errors import UsageError
from imgindex.export import parquet


def test_parquet_has_all_columns_in_the_order_of_ids(filled: ImageIndex) -> None:
    assert filled.export("it.parquet") == 12
    table = pq.read_table("it.parquet")
    assert table.column_names == [
        *("path", "id", "cluster", "cluster_name", "x", "y", "width", "height", "tags"),
        *("Age", "Place", "Weight", "metadata_width", "vector", "thumbnail"),
    ]
    images = list(filled.images())
    for column, values in {
        "path": [image.path for image in images],
        "id": [image.id for image in images],
        "width": [image.width for image in images],
        "height": [image.height for image in images],
        "tags": ["cat,dog", *["cat"] * 5, *[None] * 6],
        "cluster": [None] * 12,
    }.items():
        assert table[column].to_pylist() == values, column
    for column, kind, values in (
        ("Age", pa.int64(), {7, 8, None}),
        ("Weight", pa.float64(), {1.0, 2.5, None}),
        ("Place", pa.string(), {"Oslo", None}),
        ("metadata_width", pa.int64(), {3, 4, None}),
    ):
        assert table[column].type == kind
        assert set(table[column].to_pylist()) == values
    np.testing.assert_array_equal(np.stack(table["vector"].to_numpy()), filled.vectors())


def test_x_and_y_are_the_principal_components(filled: ImageIndex) -> None:
    filled.export("it.parquet", where="id > 3")
    table = pq.read_table("it.parquet")
    xy = np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1)
    vectors = filled.vectors()[3:].astype(np.float64)
    centred = vectors - vectors.mean(axis=0)
    exact = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    np.testing.assert_allclose(np.abs(xy), np.abs(exact), atol=1e-4)


def test_thumbnails_are_small_upright_jpegs_that_hugging_face_calls_images(filled: ImageIndex) -> None:
    filled.export("it.parquet", thumbnails=48)
    table = pq.read_table("it.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == table.column_names
    assert features["thumbnail"] == {"_type": "Image"}
    for row, image in zip(table["thumbnail"].to_pylist(), filled.images(), strict=True):
        assert row["path"] == image.path
        with Image.open(io.BytesIO(row["bytes"])) as picture, Image.open(image.path) as original:
            assert (picture.format, max(picture.size)) == ("JPEG", 48)
            expected = np.array(original.convert("RGB").getpixel((0, 0)), dtype=int)
            assert np.abs(np.array(picture.getpixel((20, 10)), dtype=int) - expected).max() <= 4


def test_the_map_and_the_thumbnails_can_be_left_out(filled: ImageIndex) -> None:
    filled.export("it.parquet", map="none", thumbnails=0)
    assert not {"x", "y", "thumbnail"} & set(pq.read_table("it.parquet").column_names)
    with pytest.raises(UsageError, match="a map cannot be made by 'mercator'"):
        filled.export("it.parquet", map="mercator")
    with pytest.raises(UsageError, match="cannot be made"):
        filled.export("it.parquet", thumbnails=5000)


def test_a_missing_image_has_no_thumbnail_and_is_logged(
    filled: ImageIndex, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "a/0.png").unlink()
    filled.export("it.parquet")
    thumbnails = pq.read_table("it.parquet")["thumbnail"].to_pylist()
    assert [row is None for row in thumbnails] == [True, *[False] * 11]
    assert "images without a thumbnail: 1, as" in caplog.text


def test_names_with_a_newline_or_not_in_utf_8_are_exported(tmp_path: Path) -> None:
    for name in (b"caf\xe9.png", b"new\nline.png"):
        draw(tmp_path / "p/x.png", len(name)).rename(tmp_path / "p" / os.fsdecode(name))
    with ImageIndex.create(tmp_path / "it", encoder=GridMean()) as index:
        index.add([tmp_path / "p"])
        assert index.export(tmp_path / "it.parquet") == 2
    names = [Path(path).name for path in pq.read_table(tmp_path / "it.parquet")["path"].to_pylist()]
    assert sorted(names) == ["caf\\udce9.png", "new\nline.png"]


def test_clusters_are_those_of_the_newest_clustering_with_their_names(filled: ImageIndex) -> None:
    filled.cluster(2)
    clustering = filled.cluster(3, where="id > 2")
    filled.clusterings.rename_cluster(1, "beach")
    filled.export("it.parquet", thumbnails=0)
    table = pq.read_table("it.parquet")
    labels = dict(zip(clustering.ids.tolist(), clustering.labels.tolist(), strict=True))
    assert table["cluster"].to_pylist() == [labels.get(id) for id in table["id"].to_pylist()]
    named = ["beach" if labels.get(id) == 1 else None for id in table["id"].to_pylist()]
    assert table["cluster_name"].to_pylist() == named
    filled.export("some.parquet", where="cluster_name = 'beach'", thumbnails=0)
    assert len(pq.read_table("some.parquet")) == clustering.sizes[1]


@pytest.mark.parametrize("rows", [0, 1, 5, 12])
def test_blocks_and_groups_of_any_size_make_the_same_table(
    filled: ImageIndex, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    filled.export("whole.parquet", where=f"id <= {rows}")
    monkeypatch.setattr(imgindex.export.run, "EXPORTED_AT_ONCE", 5)
    monkeypatch.setattr(parquet, "GROUP", 2)
    filled.export("parts.parquet", where=f"id <= {rows}")
    assert pq.read_table("parts.parquet") == pq.read_table("whole.parquet")
    assert len(pq.read_table("parts.parquet")) == rows


def test_whole_numbers_beside_fractions_are_written_as_numbers_however_large(tmp_path: Path) -> None:
    for number in range(2):
        draw(tmp_path / f"p/{number}.png", number)
    (tmp_path / "t.csv").write_text(f"ImageID,a,b\n0,{2**63 - 1},{2**64}\n1,0.5,1\n")
    with ImageIndex.create(tmp_path / "it", encoder=GridMean()) as index:
        index.add([tmp_path / "p"])
        index.import_csv(tmp_path / "t.csv")
        index.export(tmp_path / "it.parquet")
    table = pq.read_table(tmp_path / "it.parquet")
    assert table["a"].to_pylist() == [float(2**63 - 1), 0.5]
    assert table["b"].to_pylist() == [str(2**64), "1"]


def test_rows_of_images_become_columns_and_names_that_are_not_utf_8_are_escaped() -> None:
    rows = [{"id": 7, "path": "/a/caf\udce9.jpg", "more": 1}, {"id": 9, "path": None, "more": 2}]
    table = pq.read_table(io.BytesIO(parquet.render_rows(rows, ["id", "path"])))
    assert table.to_pydict() == {"id": [7, 9], "path": ["/a/caf\\udce9.jpg", None]}
    assert parquet.render_rows([], ["id"])[:4] == b"PAR1"
