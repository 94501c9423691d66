"""Any name, time, size and link that a file system allows is stored, found, compared and removed as what it is."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from names import ROUNDS, run
from names_tree import Tree


def test_the_index_agrees_with_the_disk_whatever_the_names_and_numbers() -> None:
    figures = run("ci")
    assert figures["lost"] == []
    assert figures["rounds"] == ROUNDS["ci"]
    assert figures["ways to write a path"] >= 100


def test_no_link_of_a_tree_leads_out_of_the_folder_of_the_campaign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = 0
    for seed in range(20):
        home = tmp_path / str(seed)
        home.mkdir()
        monkeypatch.chdir(home)
        tree = Tree(str(home / "tree"), random.Random(seed))
        for _ in range(60):
            tree.change()
            for path in filter(os.path.islink, tree.entries()):
                links += 1
                assert os.path.realpath(path).startswith(f"{home}/")
    assert links > 1000
