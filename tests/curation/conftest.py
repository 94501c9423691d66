"""An index of copies of one picture, for the tests of duplicates."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from collections_of import quarters
from grid_mean import GRID_RECIPE, GridMean
from pictures import draw

from imgindex import ImageIndex

RED, GREEN, BLUE, BLACK = (250, 0, 0), (0, 250, 0), (0, 0, 250), (0, 0, 0)
NEAR_RED = (247, 3, 0)


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[ImageIndex]:
    """Two copies of a red picture, one nearly so and larger, one turned and one mirrored; and a grey one alone."""
    folder = tmp_path / "p"
    quarters(folder / "a/red.png", RED, GREEN, BLUE, BLACK, time=3000)
    (folder / "b").mkdir()
    shutil.copy(folder / "a/red.png", folder / "b/copy.png")
    os.utime(folder / "b/copy.png", (2000, 2000))
    quarters(folder / "larger.png", NEAR_RED, GREEN, BLUE, BLACK, side=64, time=5000)
    quarters(folder / "turned.png", BLUE, RED, BLACK, GREEN, time=4000)
    quarters(folder / "mirrored.png", GREEN, RED, BLACK, BLUE, time=4000)
    draw(folder / "alone.png", (128, 128, 128))
    with ImageIndex.create(tmp_path / "it.imgindex", recipe=GRID_RECIPE) as index:
        index.encoder = GridMean()
        index.add([folder])
        yield index
