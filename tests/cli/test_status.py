"""`imgindex status`: the counts, the recipe, the folders and the runs of an index."""

from __future__ import annotations

import json
from pathlib import Path

from forking import Run


def test_the_status_counts_images_failures_and_missing_ones_and_names_the_folders(run: Run, here: Path) -> None:
    (here / "pictures/red/red0.png").unlink()
    (here / "pictures/broken.png").write_text("not a picture")
    assert run("add", "pictures").returncode == 3
    status = json.loads(run("status", "--json").stdout)
    assert (status["images"], status["missing"], status["failures"]) == (11, 1, 1)
    assert status["recipe"]["name"] == "vgg16-pool5"
    assert (status["runs"][0]["removed"], status["runs"][0]["failed"]) == (1, 1)
    table = run("status").stdout
    for words in ("vgg16-pool5: pool5, 32 px", "1 (its file is gone", "12 added", "in 1 segment"):
        assert words in table, table
    assert run("status", "--format", "paths").stdout == f"{here}/pictures\n"
