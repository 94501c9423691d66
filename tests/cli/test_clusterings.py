"""`imgindex clusterings` and its subcommands: list, show, assign and delete."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli_commands import COUNTS, rows
from forking import Run
from pictures import draw


def test_a_clustering_is_shown_byte_for_byte_as_it_was_made_whatever_became_of_its_images(run: Run, here: Path) -> None:
    ids = [f"{kind}{number}" for kind, count in COUNTS.items() for number in range(count)]
    (here / "sample.csv").write_text("id,note,label\n" + "".join(f'{id},"a, b",0\n' for id in reversed(ids)))
    arguments = ["-k", "3", "--like", "sample.csv", "--with", "name,cluster,distance,margin,second,silhouette"]
    assert run("cluster", *arguments, "--out", "a.csv").returncode == 0
    (here / "sample.csv").unlink()
    shutil.rmtree(here / "pictures/blue")
    assert run("add", "pictures").returncode == 0
    assert run("remove", "pictures/green").returncode == 0
    assert run("cluster", "-k", "2").returncode == 0
    assert run("clusterings", "show", "1", "--out", "b.csv").returncode == 0
    assert (here / "a.csv").read_bytes() == (here / "b.csv").read_bytes()
    assert run("clusterings", "show", "1", "--format", "csv").stdout == (here / "a.csv").read_text()
    first = rows((here / "a.csv").read_text())[0]
    assert list(first) == ["id", "note", "label", "name", "cluster", "distance", "margin", "second", "silhouette"]
    assert (first["id"], first["note"]) == ("blue2", "a, b")


def test_every_clustering_is_listed_and_shown_with_its_provenance(run: Run, here: Path) -> None:
    assert json.loads(run("clusterings", "--json").stdout) == []
    run("cluster", "-k", "3", "--seed", "5")
    run("cluster", "-k", "2..4")
    found = json.loads(run("clusterings", "--json").stdout)
    assert [(one["id"], one["k"], one["seed"], one["images"]) for one in found] == [(1, 3, 5, 12), (2, 3, 42, 12)]
    provenance = json.loads(run("clusterings", "show", "2", "--json").stdout)
    assert provenance["restart_objectives"]
    assert min(provenance["restart_objectives"]) == provenance["objective"]
    assert provenance["versions"].keys() >= {"imgindex", "faiss", "numpy", "python"}
    assert provenance["recipe"] == "vgg16-pool5"
    assert [score["k"] for score in provenance["curve"]] == [2, 3, 4]
    assert [cluster["size"] for cluster in provenance["clusters"]] == provenance["sizes"] == [5, 4, 3]
    deleted = run("clusterings", "delete", "1")
    assert (deleted.returncode, deleted.stdout, deleted.stderr) == (0, "", "clustering 1 is deleted\n")
    assert [one["id"] for one in json.loads(run("clusterings", "--json").stdout)] == [2]
    gone = run("clusterings", "show", "1")
    assert gone.returncode == 1
    assert "imgindex clusterings" in gone.stderr


def test_new_images_are_assigned_by_the_subcommand_and_by_add(run: Run, here: Path) -> None:
    assert run("add", "pictures", "--assign").returncode == 1  # there is nothing to assign to
    run("cluster", "-k", "3", "--out", "old.csv")
    draw(here / "pictures/new1.png", (21, 200, 26))
    report = json.loads(run("add", "pictures", "--assign", "--json").stdout)
    assert (report["added"], report["assigned"]) == (1, 1)
    draw(here / "pictures/new2.png", (222, 22, 25))
    assert "assigned" not in json.loads(run("add", "pictures", "--json").stdout)
    result = run("clusterings", "assign", "1", "--out", "new.csv")
    assert "new2.png" in result.stdout
    assert "new1.png" not in result.stdout
    assert "1 image put into clustering 1" in result.stderr
    old, new = rows((here / "old.csv").read_text()), rows((here / "new.csv").read_text())
    assert [row for row in new if row in old] == old
    assert {row["ImageID"]: row["label"] for row in new if row not in old} == {"new1": "1", "new2": "0"}
    assert json.loads(run("clusterings", "assign", "1", "--json").stdout)["assigned"] == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["show"], "Missing argument"),
        (["show", "1", "--seed", "3"], "No such option"),
        (["assign", "1", "--max-size", "3"], "No such option"),
        (["show", "1", "--map", "umap"], "--map has no effect without --html"),
        (["--json", "show", "1"], "the options of `imgindex clusterings show` stand after its name"),
    ],
    ids=str,
)
def test_a_missing_or_useless_option_is_refused_with_a_way_out(
    run: Run, here: Path, wrong: list[str], message: str
) -> None:
    result = run("clusterings", *wrong)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
