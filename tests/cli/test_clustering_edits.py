"""`imgindex clusterings merge`, `split`, `move` and `undo`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from cli_commands import rows
from forking import ForkServer, Run

MADE = ["cluster", "-k", "3"]


def table(text: str) -> list[list[str]]:
    """The rows of a table, with one space between two columns that have values."""
    return [line.split() for line in text.splitlines()[2:]]


def sizes(run: Run, id: str) -> dict[str, int]:
    shown = json.loads(run("clusterings", "show", id, "--json").stdout)
    return {one["name"] or str(one["label"]): one["size"] for one in shown["clusters"]}


@pytest.fixture
def named(run: Run, here: Path) -> Path:
    """A clustering of five reds, four greens and three blues; the first two have names."""
    assert run(*MADE).returncode == 0
    for label, name in enumerate(("reds", "greens")):
        assert run("label", str(label), name).returncode == 0
    return here


def test_clusters_are_merged_by_labels_and_names(run: Run, named: Path) -> None:
    done = run("clusterings", "merge", "2", "greens")
    assert done.returncode == 0
    assert table(done.stdout) == [["0", "2", "greens", "7", "1", "3", "0"], ["1", "1", "reds", "5", "0", "0", "0"]]
    assert done.stderr.splitlines() == [
        "2 of 2 clusters are still the same as in clustering 1; gone: 2 (3 images)",
        "kept as clustering 2; `imgindex clusterings undo` takes it back",
    ]
    assert run("list", "--where", "cluster_name = 'greens'").stdout.count(".png") == 7
    assert sizes(run, "1") == {"reds": 5, "greens": 4, "2": 3}


def test_a_cluster_is_split_into_as_many_parts_as_asked_for(run: Run, named: Path) -> None:
    run("clusterings", "merge", "0", "1", "2", "-q")
    done = json.loads(run("clusterings", "split", "reds", "-k", "3", "--json").stdout)
    assert done["sizes"] == [5, 4, 3]
    assert [one["name"] for one in done["clusters"]] == ["reds", None, None]
    assert done["options"] == {"edit": {"of": 2, "kind": "split", "labels": [0], "k": 3, "seed": 42}}
    anchors = ["--anchor", "sky=pictures/blue/blue0.png", "--anchor", "fire=pictures/red/red0.png"]
    named_parts = run("clusterings", "split", "0", *anchors, "--clustering", "2", "--format", "csv")
    assert {row["name"] for row in rows(named_parts.stdout)} == {"sky", "fire"}


def test_images_are_moved_by_paths_and_by_stdin(server: ForkServer, run: Run, named: Path) -> None:
    done = run("clusterings", "move", "pictures/red/red0.png", "--to", "greens")
    assert table(done.stdout)[0] == ["0", "2", "greens", "5", "1", "1", "0"]
    (named / "list").write_bytes(b"pictures/red/red1.png\0pictures/red/red2.png\0")
    command = ["clusterings", "move", "-", "-0", "--to", "2", "--clustering", "1"]
    assert server.run(*command, folder=named, stdin=str(named / "list")).code == 0
    assert sizes(run, "3") == {"0": 5, "greens": 4, "reds": 3}


def test_an_edit_is_undone_and_the_list_names_its_origin(run: Run, named: Path) -> None:
    before = run("clusterings", "show", "1", "--format", "csv").stdout
    run("clusterings", "merge", "0", "1")
    run("clusterings", "split", "0")
    listed = run("clusterings").stdout
    assert "edited_from" in listed
    assert [one["edited_from"] for one in json.loads(run("clusterings", "--json").stdout)] == [None, 1, 2]
    done = run("clusterings", "undo")
    assert (done.returncode, done.stderr) == (0, "back to clustering 2\n")
    assert table(done.stdout)[0][2] == "reds"
    assert json.loads(run("clusterings", "undo", "2", "--json").stdout)["id"] == 1
    assert run("clusterings", "show", "1", "--format", "csv").stdout == before
    assert "edited_from" not in run("clusterings").stdout


@pytest.mark.parametrize(
    ("wrong", "code", "message"),
    [
        (["merge", "0"], 2, "one cluster alone cannot be merged"),
        (["merge"], 2, "Missing argument"),
        (["merge", "0", "0"], 2, "cluster 0 is given twice"),
        (["merge", "0", "blues"], 2, "no cluster called 'blues'; its names are 'reds', 'greens'"),
        (["split", "9"], 2, "no label 9; its labels are 0 to 2"),
        (["split", "2", "-k", "4"], 2, "has 3 images, and cannot be split into 4; give at most 3"),
        (["split", "0", "--anchor", "x"], 2, "write --anchor cats=a.jpg,b.jpg"),
        (["move", "pictures/none.png", "--to", "0"], 1, "the index has no image at"),
        (["move", "pictures/red", "--to", "2"], 2, "merge it instead, with `imgindex clusterings merge 2 0`"),
        (["move", "pictures/red"], 2, "Missing option '--to'"),
        (["undo"], 2, "clustering 1 was not made by an edit; `imgindex clusterings delete`"),
        (["undo", "4"], 1, "the index does not have clustering 4"),
    ],
    ids=str,
)
def test_a_mistake_is_explained_in_one_line(run: Run, named: Path, wrong: list[str], code: int, message: str) -> None:
    done: subprocess.CompletedProcess[str] = run("clusterings", *wrong)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert json.loads(run("clusterings", "--json").stdout)[-1]["id"] == 1
