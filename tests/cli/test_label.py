"""`imgindex label`: names of clusters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from cli_commands import rows
from forking import Run


def test_a_name_is_in_every_answer_and_in_later_clusterings(run: Run, here: Path) -> None:
    run("cluster", "-k", "3")
    assert run("label", "1", "leaves").returncode == 0
    for _ in range(2):
        assert "leaves" in run("cluster", "-k", "3").stdout
        shutil.rmtree(here / "pictures/red", ignore_errors=True)
        run("add", "pictures")
    found = json.loads(run("cluster", "-k", "2", "--json").stdout)
    assert [cluster["name"] for cluster in found["clusters"]] == ["leaves", None]
    assert {(row["label"], row["name"]) for row in found["images"]} == {("0", "leaves"), ("1", None)}
    assert {row["name"] for row in rows(run("cluster", "-k", "2", "--with", "name", "--format", "csv").stdout)} == {
        "leaves", ""
    }  # fmt: skip
    assert "leaves" in run("clusterings").stdout
    assert "leaves" in run("cluster", "evaluate", "--by-folder").stdout
    assert run("label", "0", "--clear").returncode == 0
    assert "leaves" not in run("clusterings").stdout
    for wrong in (["0"], ["0", "a", "--clear"], ["9", "a"], ["0", " "]):
        assert run("label", *wrong).returncode == 2, wrong
