"""Folders of links or copies, one for each cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from forking import Run


@pytest.mark.parametrize(("option", "links"), [("--link-to", True), ("--copy-to", False)])
def test_a_folder_for_each_cluster(run: Run, here: Path, option: str, links: bool) -> None:
    run("cluster", "-k", "3")
    run("label", "0", "a/b")
    dry = run("clusterings", "show", "1", option, "out", "--dry-run")
    assert (dry.returncode, (here / "out").exists()) == (0, False)
    assert "red0.png" in dry.stderr
    (here / "out").mkdir()
    (here / "out/mine.txt").write_text("mine")
    refused = run("clusterings", "show", "1", option, "out")
    assert (refused.returncode, sorted(path.name for path in (here / "out").rglob("*"))) == (2, ["mine.txt"])
    assert "move these files away" in refused.stderr
    (here / "out/mine.txt").unlink()
    assert run("clusterings", "show", "1", option, "out").returncode == 0
    made = sorted((here / "out").rglob("*.png"))
    assert len(made) == 12
    assert {path.is_symlink() for path in made} == {links}
    folders = {
        folder: {path.stem[:-1] for path in made if path.parent == folder} for folder in {p.parent for p in made}
    }
    assert sorted(map(list, folders.values())) == [["blue"], ["green"], ["red"]]
    for path in made:
        assert path.read_bytes() == next((here / "pictures").rglob(path.name)).read_bytes()
    (here / "out/1/mine.txt").write_text("mine")
    assert run("cluster", "-k", "2", option, "out").returncode == 0
    assert len(sorted((here / "out").rglob("*.png"))) == 12
    assert len(list((here / "pictures").rglob("*.png"))) == 12
