"""`imgindex outliers`: a table or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from collections_of import greys_and_two_apart
from forking import Run

from imgindex import ImageIndex


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[ImageIndex]:
    with greys_and_two_apart(tmp_path) as index:
        yield index


def test_the_command_prints_a_table_or_json(gallery: ImageIndex, run: Run) -> None:
    result = run("outliers", "-n", "2", "--index", gallery.path)
    assert result.returncode == 0
    assert result.stdout.split()[:6] == ["rank", "distance", "times", "path", "nearest", "id"]
    found = json.loads(run("outliers", "-n", "2", "--json", "--index", gallery.path).stdout)
    assert [(one["rank"], Path(one["path"]).name) for one in found] == [(1, "green.png"), (2, "red.png")]
    assert run("outliers", "-n", "2", "--format", "paths", "--index", gallery.path).stdout.count("\n") == 2
