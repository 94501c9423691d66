"""Exported files: what other programs find in them, and that they are read as those programs read them."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import GRID_RECIPE, GridMean, Run, draw
from PIL import Image

import imgindex.exporting
from imgindex import ImageIndex
from imgindex.errors import UsageError
from imgindex.reports import parquet


@pytest.fixture
def filled(index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ImageIndex:
    """Twelve images, seen from the folder that holds the index; some with tags and metadata."""
    draw(folder / "b/11.png", 11, (64, 32))
    index.add([folder])
    monkeypatch.chdir(folder.parent)
    index.tag("cat", [folder / "a"])
    index.tag("dog", where="id = 1")
    Path("table.csv").write_text("ImageID,Age,Weight,Place,width\n0,7,1,Oslo,3\n1,8,2.5,,4\n")
    index.import_csv("table.csv")
    return index


def test_parquet_holds_all_that_is_known_in_the_order_of_ids(filled: ImageIndex) -> None:
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


def test_what_is_dear_can_be_left_out(filled: ImageIndex) -> None:
    filled.export("it.parquet", map="none", thumbnails=0)
    assert not {"x", "y", "thumbnail"} & set(pq.read_table("it.parquet").column_names)
    with pytest.raises(UsageError, match="no map"):
        filled.export("it.parquet", map="mercator")
    with pytest.raises(UsageError, match="cannot be made"):
        filled.export("it.parquet", thumbnails=5000)


def test_an_image_that_is_gone_has_no_thumbnail_and_that_is_said(
    filled: ImageIndex, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "a/0.png").unlink()
    filled.export("it.parquet")
    thumbnails = pq.read_table("it.parquet")["thumbnail"].to_pylist()
    assert [row is None for row in thumbnails] == [True, *[False] * 11]
    assert "images without a thumbnail: 1, as" in caplog.text


def test_a_name_that_is_not_utf_8_and_one_with_a_newline_come_through(tmp_path: Path) -> None:
    for name in (b"caf\xe9.png", b"new\nline.png"):
        draw(tmp_path / "p/x.png", len(name)).rename(tmp_path / "p" / os.fsdecode(name))
    with ImageIndex.create(tmp_path / "it", recipe=GRID_RECIPE) as index:
        index.embedder = GridMean()
        index.add([tmp_path / "p"])
        assert index.export(tmp_path / "it.parquet") == 2
    names = [Path(path).name for path in pq.read_table(tmp_path / "it.parquet")["path"].to_pylist()]
    assert sorted(names) == ["caf\\udce9.png", "new\nline.png"]


def test_clusters_are_those_of_the_newest_clustering_with_their_names(filled: ImageIndex) -> None:
    filled.cluster(2)
    clustering = filled.cluster(3, where="id > 2")
    filled.label(1, "beach")
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
    monkeypatch.setattr(imgindex.exporting, "EXPORTED_AT_ONCE", 5)
    monkeypatch.setattr(parquet, "GROUP", 2)
    filled.export("parts.parquet", where=f"id <= {rows}")
    assert pq.read_table("parts.parquet") == pq.read_table("whole.parquet")
    assert len(pq.read_table("parts.parquet")) == rows


@pytest.mark.parametrize("where", [None, "id in (2, 5, 7)", "false"])
def test_any_program_with_faiss_reads_the_index_and_finds_our_ids(filled: ImageIndex, where: str | None) -> None:
    count = filled.export("it.faiss", where=where)
    index = faiss.read_index("it.faiss")
    ids = [image.id for image in filled.images(where=where)]
    vectors = filled.vectors()[[id - 1 for id in ids]]
    expected = faiss.IndexIDMap2(faiss.IndexFlatL2(12))
    expected.add_with_ids(vectors, np.array(ids, dtype=np.int64))
    assert Path("it.faiss").read_bytes() == faiss.serialize_index(expected).tobytes()
    assert (index.ntotal, index.d) == (count, 12) == (len(ids), 12)
    if ids:
        np.testing.assert_array_equal(index.search(vectors, 1)[1][:, 0], ids)
        np.testing.assert_array_equal(index.reconstruct(ids[-1]), vectors[-1])


@pytest.mark.parametrize("ending", ["npz", "npy", "csv"])
def test_conditions_hold_for_every_format(filled: ImageIndex, ending: str) -> None:
    assert filled.export(f"it.{ending}", where="tags match 'dog'") == 1
    assert Path(f"it.{ending}").stat().st_size > 48


def test_the_command_takes_the_same_wishes(run: Run, three: Path) -> None:
    done = run("export", "--out", "it.parquet", "--where", "path like '%/1.png'", "--thumbnails", "32", "--map", "none")
    assert done.returncode == 0, done.stderr
    (row,) = pq.read_table(three / "it.parquet").to_pylist()
    assert row["path"] == "pictures/1.png"
    assert "x" not in row
    wrong = run("export", "--out", "it.xls")
    assert (wrong.returncode, ".faiss" in wrong.stderr) == (2, True)
