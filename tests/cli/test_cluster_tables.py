"""The tables and the JSON of clusterings, comparisons and evaluations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_commands import COUNTS, rows
from forking import Run


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


def test_cluster_prints_its_provenance_in_json(run: Run, added: Path) -> None:
    provenance = json.loads(run("cluster", "-k", "3", "--json").stdout)
    assert provenance["k"] == 3
    assert provenance["trained_on"] == sum(provenance["sizes"]) == 12
    assert len(provenance["images"]) == 12
