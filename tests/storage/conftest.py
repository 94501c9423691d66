"""A catalogue by itself, without segments."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgindex.storage.catalogue import Catalogue
from imgindex.storage.paths import PathMap


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    made = Catalogue(str(tmp_path / "catalogue.db"), PathMap("/home/ann/it.imgindex"), write=True)
    with contextlib.closing(made):
        made.set_rows(1, 10_000)
        yield made
