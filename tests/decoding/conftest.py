"""Here an index decodes as it does for users, in processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from grid_mean import GRID_RECIPE, GridMean

from imgindex import ImageIndex


@pytest.fixture
def index(tmp_path: Path, encoder: GridMean) -> Iterator[ImageIndex]:
    """An empty index beside the pictures, with the encoder of the tests."""
    with ImageIndex.create(tmp_path / "pictures.imgindex", recipe=GRID_RECIPE) as opened:
        opened.encoder = encoder
        yield opened
