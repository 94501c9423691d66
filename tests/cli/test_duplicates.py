"""`imgindex duplicates`: tables, JSON, folders of links."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from collections_of import copies_of_one
from forking import Run
from pictures import contents

from imgindex import ImageIndex


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[ImageIndex]:
    """Two copies of a red picture, one nearly so and larger, one turned and one mirrored; and a grey one alone."""
    with copies_of_one(tmp_path) as index:
        yield index


def test_the_command_prints_a_table_or_all_fields_as_json(gallery: ImageIndex, run: Run, tmp_path: Path) -> None:
    before = contents(tmp_path / "p")
    table = run("duplicates", "--index", gallery.path)
    assert table.returncode == 0
    room = (tmp_path / "p/a/red.png").stat().st_size * 2 / 1000
    assert f"1 group among 7 images (0 same, 2 copy); 2 files of {room:,.1f} kB are disposable" in table.stderr
    lines = table.stdout.splitlines()
    assert lines[0].split() == ["group", "image", "distance", "path", "pixels", "size", "remark"]
    assert lines[2].split()[:3] == ["1", "keep", "p/larger.png"]
    assert "largest: 192 × 192 pixels" in lines[2]
    near = gallery.duplicates().groups[0].others[0].distance
    assert lines[3].split()[:4] == ["1", "copy", f"{near:.4f}", "p/a/red.png"]
    found = json.loads(run("duplicates", "--json", "--index", gallery.path).stdout)
    assert (found["grades"], found["images"], found["failures"]) == (["same", "copy"], 7, [])
    (group,) = found["groups"]
    assert (group["group"], group["keep"]) == (1, "p/larger.png")
    assert [(one["path"], one["how"], one["disposable"]) for one in group["images"]] == [
        ("p/larger.png", "kept", False),
        ("p/a/red.png", "copy", True),
        ("p/b/copy.png", "copy", True),
    ]
    lines = run("duplicates", "--format", "jsonl", "--index", gallery.path).stdout.splitlines()
    assert [json.loads(line) for line in lines] == [group]
    rows = list(
        csv.DictReader(run("duplicates", "--exact", "--format", "csv", "--index", gallery.path).stdout.splitlines())
    )
    assert [(row["group"], row["how"], row["path"]) for row in rows] == [
        ("1", "kept", "p/b/copy.png"),
        ("1", "same", "p/a/red.png"),
    ]
    similar = json.loads(run("duplicates", "--similar", "--distance", "9", "--json", "--index", gallery.path).stdout)
    assert {one["how"] for one in similar["groups"][0]["images"]} == {"kept", "copy", "similar"}
    assert contents(tmp_path / "p") == before


def test_paths_lists_the_disposable_images(gallery: ImageIndex, run: Run) -> None:
    for options in ((), ("--similar", "--distance", "9")):
        result = run("duplicates", *options, "--format", "paths", "--index", gallery.path)
        assert result.stdout == "p/a/red.png\np/b/copy.png\n"


def test_each_group_gets_a_folder_of_links_and_a_dry_run_only_lists_them(
    gallery: ImageIndex, run: Run, tmp_path: Path
) -> None:
    command = ("duplicates", "--index", gallery.path, "--link-to", "twice")
    dry = run(*command, "--dry-run")
    assert dry.returncode == 0
    assert dry.stderr.count("would make") == 3
    assert not (tmp_path / "twice").exists()
    done = run(*command)
    assert (done.returncode, done.stdout) == (0, dry.stdout)
    links = {path.name: os.readlink(path) for path in (tmp_path / "twice/001 larger").iterdir()}
    assert links == {
        "larger.png": "../../p/larger.png",
        "red.png": "../../p/a/red.png",
        "copy.png": "../../p/b/copy.png",
    }
    assert "3 made, 0 kept, 0 removed" in done.stderr
    assert "0 made, 3 kept, 0 removed" in run(*command).stderr
    again = run("duplicates", "--exact", "--index", gallery.path, "--link-to", "twice")
    assert "2 made, 0 kept, 3 removed" in again.stderr
    assert [path.name for path in (tmp_path / "twice").iterdir() if path.is_dir()] == ["001 copy"]


def test_the_links_are_not_added_as_images(gallery: ImageIndex, run: Run, tmp_path: Path) -> None:
    run("duplicates", "--exact", "--index", gallery.path, "--link-to", "p/twice")
    report = gallery.add([tmp_path / "p"])
    assert (report.found, report.added, report.reused) == (7, 0, 0)
    assert gallery.add([tmp_path / "p/twice"]).found == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--dry-run"],
        ["--exact", "--similar"],
        ["--exact", "--flips"],
        ["--distance", "0.3"],
        ["--similar", "--distance", "-1"],
        ["--keep", "x"],
    ],
)
def test_contradictory_options_are_usage_errors(gallery: ImageIndex, run: Run, arguments: list[str]) -> None:
    assert run("duplicates", *arguments, "--index", gallery.path).returncode == 2


def test_missing_images_are_not_linked_and_the_exit_code_is_3(gallery: ImageIndex, run: Run, tmp_path: Path) -> None:
    (tmp_path / "p/b/copy.png").unlink()
    result = run("duplicates", "--exact", "--index", gallery.path, "--link-to", "twice")
    assert result.returncode == 3
    assert "failed: " in result.stderr
    assert "No such file or directory" in result.stdout


def test_neither_torch_nor_pandas_is_loaded(gallery: ImageIndex, run: Run) -> None:
    for command in (["duplicates"], ["leak", "p/a", "p/b"], ["outliers"]):
        result = run(*command, "--index", gallery.path, env={"PYTHONPROFILEIMPORTTIME": "1"})
        assert result.returncode == 0
        imported = {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines()}
        assert "numpy" in imported
        assert imported.isdisjoint({"openvino", "torch", "pandas"})
