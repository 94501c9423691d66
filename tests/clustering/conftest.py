"""What the tests of clustering share: an index of two kinds of pictures, and k-means in one thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from colour_kinds import GREENS, REDS, draw_kinds
from threadpoolctl import threadpool_limits

from imgindex import ImageIndex


@pytest.fixture
def kinds(index: ImageIndex, tmp_path: Path) -> Path:
    """An index of ten reds and eight greens, and their folder."""
    draw_kinds(tmp_path / "kinds", red=REDS, green=GREENS[:8])
    index.add([tmp_path / "kinds"])
    return tmp_path / "kinds"


@pytest.fixture
def one_thread() -> Iterator[None]:
    # Thousands of tiny parallel regions crawl on a machine that others use too.
    with threadpool_limits(1):
        yield
