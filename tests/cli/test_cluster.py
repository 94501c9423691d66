"""`imgindex cluster` from the command line: labels, sizes, anchors, conditions."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_commands import rows
from forking import ForkServer, Run
from page_files import page_data
from pictures import draw
from small_recipe import SMALL


def test_clusters_start_at_anchors_and_have_balanced_or_limited_sizes(run: Run, here: Path) -> None:
    result = run("cluster", "--anchor", "roses=pictures/red/red1.png,pictures/red/red2.png",
                 "--anchor", "leaves=pictures/green/green1.png", "--json")  # fmt: skip
    found = json.loads(result.stdout)
    assert (found["k"], {cluster["name"] for cluster in found["clusters"]}) == (2, {"roses", "leaves"})
    assert json.loads(run("cluster", "-k", "4", "--max-size", "balanced", "--json").stdout)["sizes"] == [3, 3, 3, 3]
    assert max(json.loads(run("cluster", "-k", "3", "--max-size", "4", "--json").stdout)["sizes"]) == 4
    assert run("cluster", "-k", "2", "--max-size", "4").returncode == 2
    assert run("cluster", "--anchor", "roses").returncode == 2
    assert run("cluster", "--anchor", "roses=nowhere.png").returncode == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["cluster"], "give -k K, for example -k 5"),
        (["cluster", "-k", "2", "--map", "umap"], "--map has no effect without --html"),
        (["cluster", "-k", "2", "--images", "all"], "--images has no effect without --html"),
        (["cluster", "-k", "2", "--images", "many", "--html", "a.html"], "give a number, or all"),
        (["cluster", "-k", "2", "--max-size", "0"], "give a number from 1, or balanced"),
        (["cluster", "-k", "2", "--max-size", "even"], "--max-size even is not a number of images"),
        (["cluster", "-k", "2", "--dry-run"], "--dry-run has no effect without a folder to fill"),
        (["cluster", "-k", "2", "diff", "1", "1"], "the options of `imgindex cluster diff` stand after its name"),
    ],
    ids=str,
)
def test_a_missing_or_useless_option_is_refused_with_a_way_out(
    run: Run, here: Path, wrong: list[str], message: str
) -> None:
    result = run(*wrong)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr


def test_the_page_lists_as_many_images_as_asked_for(run: Run, here: Path) -> None:
    named = []
    for images in ("0", "2", "all"):
        made = run("cluster", "-k", "1", "--html", "made.html", "--images", images, "--overwrite")
        shown = run("clusterings", "show", "1", "--html", "shown.html", "--images", images, "--overwrite")
        assert (made.returncode, shown.returncode) == (0, 0)
        of_made, of_shown = (
            sum(len(cluster["listed"]) for cluster in page_data(here / name)["clusters"])
            for name in ("made.html", "shown.html")
        )
        assert of_made == of_shown
        named.append(of_made)
    assert named[0] < named[-1]


def test_a_condition_chooses_what_is_clustered_and_clusters_are_conditions(run: Run, here: Path) -> None:
    found = json.loads(run("cluster", "-k", "2", "--where", "path not like '%blue%'", "--json").stdout)
    assert (found["sizes"], found["options"]) == ([5, 4], {"where": "path not like '%blue%'"})
    run("label", "1", "leaves")
    listed = json.loads(run("list", "--where", "cluster_name = 'leaves'", "--json").stdout)
    assert {Path(image["path"]).stem for image in listed} == {"green0", "green1", "green2", "green3"}
    assert len(json.loads(run("list", "--where", "cluster is null", "--json").stdout)) == 3
    (answer,) = json.loads(
        run("similar", "pictures/red/red0.png", "--where", "cluster = 1", "-n", "9", "--json").stdout
    )
    assert len(answer["matches"]) == 4
    groups = json.loads(
        run("duplicates", "--similar", "--distance", "2", "--where", "folder like '%/red'", "--json").stdout
    )
    assert groups["images"] == 5
    none = run("cluster", "-k", "2", "--where", "width > 1e6")
    assert none.returncode == 1
    assert "list --where" in none.stderr
    wrong = run("cluster", "-k", "2", "--where", "colour = 1")
    assert wrong.returncode == 2
    assert "cluster_name" in wrong.stderr


def test_a_clustering_that_cannot_be_kept_is_printed_with_a_remark(run: Run, here: Path) -> None:
    with open(here / ".imgindex/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run("cluster", "-k", "3", "--out", "labels.csv")
        assert result.returncode == 0
        assert "this clustering is not kept" in result.stderr
        assert len(rows((here / "labels.csv").read_text())) == 12
        assert json.loads(run("cluster", "-k", "3", "--json").stdout)["not_kept"] != ""
    assert json.loads(run("clusterings", "--json").stdout) == []


def test_cluster_writes_labels_by_falling_size_in_natural_order(run: Run, added: Path, tmp_path: Path) -> None:
    result = run("cluster", "-k", "3", "--out", "submission.csv")
    assert result.returncode == 0
    rows = list(csv.reader(io.StringIO((tmp_path / "submission.csv").read_text())))
    assert rows[0] == ["ImageID", "label"]
    assert [row[0] for row in rows[1:]] == [str(number) for number in range(12)]
    sizes = np.bincount([int(row[1]) for row in rows[1:]])
    assert len(sizes) == 3
    assert list(sizes) == sorted(sizes, reverse=True)
    assert re.match(r"12 images in 3 clusters, (under )?\d+\.\d s; labels in submission\.csv\n", result.stderr)
    assert "objective" not in result.stderr
    assert "iteration" not in result.stderr
    assert "\nnext: " in result.stderr


def test_cluster_with_the_same_seed_gives_the_same_labels(run: Run, added: Path) -> None:
    labels = [run("cluster", "-k", "4", "--seed", "7", "--format", "csv").stdout for _ in range(2)]
    assert labels[0] == labels[1]
    assert labels[0].startswith("ImageID,label\n")


def test_more_clusters_than_distinct_pictures_is_a_clear_error(run: Run, tmp_path: Path) -> None:
    for number in range(5):
        draw(tmp_path / "p" / f"{number}.png", 1)
    run("add", "p", *SMALL)
    result = run("cluster", "-k", "2")
    assert (result.returncode, result.stdout) == (1, "")
    assert "distinct" in result.stderr


@pytest.fixture(scope="module")
def made_with_same_names(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index of images that have the same name in several folders, and its clustering 1."""
    folder = tmp_path_factory.mktemp("same")
    for number, name in enumerate(("a/1.png", "b/1.png", "b/2.png", "c/1.png")):
        draw(folder / "photos" / name, number * 9)
    for command in (["add", "photos", *SMALL], ["cluster", "-k", "2"]):
        assert server.run(*command, folder=folder).code == 0
    return folder


@pytest.fixture
def same_names(made_with_same_names: Path, tmp_path: Path) -> Path:
    """A folder of its own with these images and their index."""
    shutil.copytree(made_with_same_names, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.parametrize("format", ["table", "json", "jsonl", "paths"])
@pytest.mark.parametrize("command", ["cluster -k 2", "clusterings show 1", "clusterings assign 1"])
def test_images_of_the_same_name_are_no_error_where_no_csv_is_written(
    run: Run, same_names: Path, format: str, command: str
) -> None:
    result = run(*command.split(), "--format", format)
    assert result.returncode == 0, result.stderr
    remark = "each ImageID is a path, because images have the same stem"
    assert (remark in result.stderr) == (format in ("json", "jsonl"))
    if format == "json" and "assign" not in command:
        ids = [image["ImageID"] for image in json.loads(result.stdout)["images"]]
        assert ids == ["photos/a/1.png", "photos/b/1.png", "photos/b/2.png", "photos/c/1.png"]


def test_images_of_the_same_name_are_an_error_where_a_csv_is_written(run: Run, same_names: Path) -> None:
    for options in (["--out", "labels.csv"], ["--format", "csv"], ["--id", "stem", "--json"]):
        result = run("cluster", "-k", "2", *options)
        assert result.returncode == 2
        assert "have the same ImageID '1'; give --id path" in result.stderr
    assert not (same_names / "labels.csv").exists()
    assert run("cluster", "-k", "2", "--with", "distance").returncode == 0


def test_a_map_without_its_library_is_refused_before_the_clustering(same_names: Path) -> None:
    without_umap = "import sys; sys.modules['umap'] = None; from imgindex.cli.app import main; main()"
    command = [sys.executable, "-c", without_umap, "cluster", "-k", "2", "--html", "page.html", "--map", "umap"]
    result = subprocess.run(command, cwd=same_names, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert "pip install umap-learn" in result.stderr
    assert not (same_names / "page.html").exists()
