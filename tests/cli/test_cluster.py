"""`imgindex cluster`, `cluster diff` and `cluster evaluate` from the command line."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from cli_commands import COUNTS, rows
from forking import Run
from pictures import draw
from small_recipe import SMALL


def test_clusters_start_at_anchors_and_have_balanced_or_limited_sizes(run: Run, here: Path) -> None:
    result = run("cluster", "--anchor", "roses=pictures/red/red1.png,pictures/red/red2.png",
                 "--anchor", "leaves=pictures/green/green1.png", "--json")  # fmt: skip
    found = json.loads(result.stdout)
    assert (found["k"], {cluster["name"] for cluster in found["clusters"]}) == (2, {"roses", "leaves"})
    assert json.loads(run("cluster", "-k", "4", "--balanced", "--json").stdout)["sizes"] == [3, 3, 3, 3]
    assert max(json.loads(run("cluster", "-k", "3", "--max-size", "4", "--json").stdout)["sizes"]) == 4
    assert run("cluster", "-k", "2", "--max-size", "4").returncode == 2
    assert run("cluster", "--anchor", "roses").returncode == 2
    assert run("cluster", "--anchor", "roses=nowhere.png").returncode == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["cluster"], "give -k K, for example -k 5"),
        (["cluster", "-k", "2", "--map", "umap"], "--map has no effect without --html"),
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


def test_a_difference_names_the_images_that_moved(run: Run, here: Path) -> None:
    run("cluster", "-k", "3")
    run("cluster", "-k", "2")
    found = json.loads(run("cluster", "diff", "1", "2", "--json").stdout)
    moved = {one["path"] for one in found["moved"]}
    assert moved in ({f"pictures/{kind}/{kind}{n}.png" for n in range(count)} for kind, count in
                     COUNTS.items())  # fmt: skip
    assert 0 < found["ari"] < 1
    assert found["images"] == 12
    same = run("cluster", "diff", "1", "1")
    assert "0 of 12 images moved: ARI 1.000, NMI 1.000" in same.stderr
    assert run("cluster", "diff", "1", "2", "--format", "paths").stdout.split() == [
        one["path"] for one in found["moved"]
    ]
    assert run("cluster", "diff", "1", "9").returncode == 1


def test_a_clustering_is_evaluated_by_folders_and_by_a_csv(run: Run, here: Path) -> None:
    run("cluster", "-k", "3")
    found = json.loads(run("cluster", "evaluate", "--by-folder", "--json").stdout)
    assert [found[score] for score in ("ari", "nmi", "v_measure", "purity")] == pytest.approx([1, 1, 1, 1])
    assert found["classes"] == ["blue", "green", "red"]
    assert found["confusion"] == [[0, 0, 5], [0, 4, 0], [3, 0, 0]]
    (here / "truth.csv").write_text("file,class\nred0,warm\nred1,warm\nblue0,cold\ngreen0,cold\nnobody,cold\n")
    result = run("cluster", "evaluate", "--truth", "truth.csv", "--json")
    found = json.loads(result.stdout)
    assert (found["images"], found["unlabelled"], found["unknown"]) == (4, 8, ["nobody"])
    assert (found["homogeneity"], found["completeness"]) == pytest.approx((1, 2 / 3), abs=0.01)
    assert "'nobody'" in result.stderr
    table = run("cluster", "evaluate", "1", "--truth", "truth.csv").stdout
    assert "v_measure" in table
    assert "warm 2" in table
    assert rows(run("cluster", "evaluate", "--by-folder", "--format", "csv").stdout)[0]["red"] == "5"
    for wrong, code in (([], 2), (["--truth", "no.csv"], 2), (["--truth", "truth.csv", "--by-folder"], 2)):
        assert run("cluster", "evaluate", *wrong).returncode == code
    (here / "other.csv").write_text("file,class\na,b\n")
    assert run("cluster", "evaluate", "--truth", "other.csv").returncode == 1


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
    groups = json.loads(run("duplicates", "--distance", "2", "--where", "folder like '%/red'", "--json").stdout)
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
    assert re.match(r"12 images in 3 clusters, \d+\.\d s; labels in submission\.csv\n", result.stderr)
    assert "objective" not in result.stderr


def test_cluster_with_the_same_seed_gives_the_same_labels(run: Run, added: Path) -> None:
    labels = [run("cluster", "-k", "4", "--seed", "7", "--format", "csv").stdout for _ in range(2)]
    assert labels[0] == labels[1]
    assert labels[0].startswith("ImageID,label\n")


def test_cluster_prints_its_provenance_in_json(run: Run, added: Path) -> None:
    provenance = json.loads(run("cluster", "-k", "3", "--json").stdout)
    assert provenance["k"] == 3
    assert provenance["trained_on"] == sum(provenance["sizes"]) == 12
    assert len(provenance["images"]) == 12


def test_cluster_chooses_k_and_shows_why(run: Run, tmp_path: Path) -> None:
    colours = [(250, 10, 10), (10, 250, 10), (10, 10, 250)]
    for number in range(24):
        red, green, blue = colours[number % 3]
        draw(tmp_path / "test" / f"{number}.png", (red, green, blue - number // 3 if blue > 99 else blue + number // 3))
    run("add", "test", *SMALL)
    result = run("cluster", "-k", "2..6")
    assert result.returncode == 0
    assert [line.split()[0] for line in result.stderr.splitlines()[1:6]] == ["2", "→", "4", "5", "6"]
    assert "of 2 to 6 clusters, 3 have the greatest silhouette (0." in result.stderr
    assert "█" not in result.stdout
    provenance = json.loads(run("cluster", "-k", "auto", "--json").stdout)
    assert provenance["k"] == 3
    assert [score["k"] for score in provenance["curve"]] == [2, 3, 4, 5, 6, 7, 8]
    assert provenance["sizes"] == [8, 8, 8]
    assert run("cluster", "-k", "auto", "--quiet", "--format", "csv").stderr == ""


def test_more_clusters_than_distinct_pictures_is_a_clear_error(run: Run, tmp_path: Path) -> None:
    for number in range(5):
        draw(tmp_path / "p" / f"{number}.png", 1)
    run("add", "p", *SMALL)
    result = run("cluster", "-k", "2")
    assert (result.returncode, result.stdout) == (1, "")
    assert "distinct" in result.stderr
