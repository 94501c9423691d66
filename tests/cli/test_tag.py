"""`imgindex tag`: tags and tables of metadata."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from forking import Run


def test_the_command_tags_lists_and_imports_and_names_ids_without_an_image(run: Run, three: Path) -> None:
    assert json.loads(run("tag", "cat", "pictures/0.png", "--json").stdout) == {"tag": "cat", "images": 1, "changed": 1}
    assert run("tag", "dog", "--where", "width = 32").returncode == 0
    assert json.loads(run("tag", "--list", "--json").stdout) == [
        {"tag": "dog", "images": 3},
        {"tag": "cat", "images": 1},
    ]
    (three / "table.csv").write_text("ImageID,Age\n0,3\n77,4\n")
    done = run("tag", "--csv", "table.csv", "--json")
    assert json.loads(done.stdout) == {"columns": ["Age"], "images": 1, "unknown": ["77"]}
    assert (done.returncode, "'77'" in done.stderr) == (0, True)
    first, *_ = json.loads(run("list", "--json", "--where", "Age = 3").stdout)
    assert (first["tags"], first["metadata"]) == (["cat", "dog"], {"Age": 3})
    assert run("list", "--format", "csv", "--where", "Age = 3").stdout.splitlines()[1].endswith('"cat,dog"')
    assert run("tag", "dog", "--remove", "--where", "1").returncode == 0
    assert [row["tag"] for row in json.loads(run("tag", "--list", "--json").stdout)] == ["cat"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["cat"],
        ["cat", "pictures", "--where", "1"],
        ["--list", "--csv", "x"],
        ["--where", "1"],
        ["--list", "--remove"],
    ],
)
def test_a_call_without_a_task_or_with_two_is_refused(run: Run, three: Path, arguments: list[str]) -> None:
    done = run("tag", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
