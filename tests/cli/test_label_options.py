"""The labels of a clustering: more columns, the ids of images, and a sample whose form they take."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from cli_commands import rows
from forking import Run
from pictures import draw
from small_recipe import SMALL


def test_cluster_like_a_sample_copies_its_columns_ids_and_order(run: Run, tmp_path: Path) -> None:
    ids = ["007", "7b", "a b", "10", "2"]
    for number, id in enumerate(ids):
        draw(tmp_path / "test" / f"{id}.png", number)
    run("add", "test", *SMALL)
    (tmp_path / "sample.csv").write_bytes(b"\xef\xbb\xbfImageID,label,note\r\n" + b"".join(
        f"{id},0,n{id}\r\n".encode() for id in ids
    ))  # fmt: skip
    assert run("cluster", "-k", "2", "--like", "sample.csv", "--out", "submission.csv").returncode == 0
    with (tmp_path / "submission.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["ImageID", "label", "note"]
    assert [row[0] for row in rows[1:]] == ids
    assert [row[2] for row in rows[1:]] == [f"n{id}" for id in ids]
    assert {row[1] for row in rows[1:]} == {"0", "1"}


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ("ImageID,label\n" + "".join(f"{n},0\n" for n in range(11)), "'11'"),
        ("ImageID,label\n" + "".join(f"{n},0\n" for n in range(13)), "'12'"),
        ("ImageID,label\n" + "".join(f"{n},0\n" for n in [*range(12), 3]), "'3' more than once"),
        ("ImageID,label\n" + "".join(f"{n}.png,0\n" for n in range(12)), "--id name"),
        ("ImageID\n0\n", "two columns"),
        ("", "not a CSV"),
    ],
)
def test_cluster_refuses_a_sample_that_does_not_fit_with_the_reason(
    run: Run, added: Path, tmp_path: Path, sample: str, message: str
) -> None:
    (tmp_path / "sample.csv").write_text(sample)
    result = run("cluster", "-k", "2", "--like", "sample.csv", "--out", "submission.csv")
    assert result.returncode == 1
    assert message in result.stderr
    assert not (tmp_path / "submission.csv").exists()


def test_labels_of_two_images_with_one_id_are_refused_by_naming_both(run: Run, tmp_path: Path) -> None:
    draw(tmp_path / "p" / "a" / "1.png", 1)
    draw(tmp_path / "p" / "b" / "1.png", 2)
    run("add", "p", *SMALL)
    result = run("cluster", "-k", "2", "--format", "csv")
    assert result.returncode == 2
    assert "p/a/1.png" in result.stderr
    assert "p/b/1.png" in result.stderr
    assert "--id path" in result.stderr
    assert "p/a/1.png," in run("cluster", "-k", "2", "--id", "path", "--format", "csv").stdout
    assert run("cluster", "-k", "2").returncode == 0  # without labels the ids do not matter


def test_extra_columns_measure_how_well_each_image_fits_its_cluster(run: Run, here: Path) -> None:
    found = rows(run("cluster", "-k", "3", "--with", "distance,margin,second,silhouette", "--format", "csv").stdout)
    assert [row["label"] for row in found if row["ImageID"].startswith("red")] == ["0"] * 5
    for row in found:
        assert float(row["distance"]) < float(row["distance"]) + float(row["margin"])
        assert row["second"] != row["label"]
        assert 0.5 < float(row["silhouette"]) <= 1
    result = run("cluster", "-k", "3", "--with", "colour")
    assert result.returncode == 2
    assert "silhouette" in result.stderr
