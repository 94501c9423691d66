"""Paths that a command reads from stdin."""

from __future__ import annotations

import json
from pathlib import Path

from forking import Run
from pictures import draw
from small_recipe import SMALL


def test_paths_are_read_from_stdin_by_line_or_nul(run: Run, folder: Path, tmp_path: Path) -> None:
    lines = "pictures/a/0.png\npictures/a/1.png\n"
    first = run("add", "-", *SMALL, "--json", stdin=None, input=lines)
    assert json.loads(first.stdout)["added"] == 2
    draw(folder / "new\nline.png", 50)
    second = run("add", "-0", "-", "--json", stdin=None, input="pictures/new\nline.png\0pictures/b/6.png\0")
    assert json.loads(second.stdout)["added"] == 2
