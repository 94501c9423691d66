"""The options of all commands: the index that is found."""

from __future__ import annotations

import json
from pathlib import Path

from forking import Run


def test_an_index_is_found_from_a_folder_below_and_by_variable(run: Run, added: Path, tmp_path: Path) -> None:
    below = run("similar", "0.png", "--json", cwd=tmp_path / "pictures" / "a")
    assert json.loads(below.stdout)[0]["matches"][0]["rank"] == 1
    elsewhere = run("list", "--format", "paths", cwd="/", env={"IMGINDEX_DIR": str(tmp_path / ".imgindex")})
    assert all(Path("/", line).is_file() for line in elsewhere.stdout.splitlines())
