"""The outline of duplicates: a group is decided when each of its images is, and exact when bytes alone decide."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from grid_mean import GridMean
from pictures import draw

from imgindex import ImageIndex
from imgindex.server.duplicate_review import outline


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[ImageIndex]:
    """Groups by their numbers: 1 three copies, 2 two copies, 3 a picture with a second path of the same file."""
    for number, copies in ((1, 3), (2, 2)):
        for copy in range(copies):
            draw(tmp_path / "p" / f"{number} {copy}.png", number)
    draw(tmp_path / "p" / "3 0.png", 3)
    os.link(tmp_path / "p" / "3 0.png", tmp_path / "p" / "3 1.png")
    with ImageIndex.create(tmp_path / "it.imgindex", encoder=GridMean()) as index:
        index.add(tmp_path / "p")
        yield index


def test_groups_are_decided_and_exact(opened: ImageIndex, tmp_path: Path) -> None:
    found = opened.duplicates()
    assert outline(opened, "7", found) == {"at": "7", "images": 7, "groups": 3, "decided": [], "exact": [1, 2]}
    opened.tag("keep", [tmp_path / "p" / "1 0.png", tmp_path / "p" / "2 0.png"])
    opened.tag("spare", [tmp_path / "p" / "1 1.png", tmp_path / "p" / "2 1.png"])
    assert outline(opened, "7", found)["decided"] == [2]
    opened.tag("keep", tmp_path / "p" / "1 2.png")
    assert outline(opened, "7", found)["decided"] == [1, 2]


def test_a_group_whose_best_image_is_gone_is_not_exact(opened: ImageIndex, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "p")
    assert outline(opened, "7", opened.duplicates())["exact"] == []
