"""An index of copies of one picture, for the tests of duplicates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from collections_of import copies_of_one

from imgindex import ImageIndex


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[ImageIndex]:
    """Two copies of a red picture, one nearly so and larger, one turned and one mirrored; and a grey one alone."""
    with copies_of_one(tmp_path) as index:
        yield index
