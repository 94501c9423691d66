"""A catalogue by itself, an empty store, and indexes of twelve pictures that are not open."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_commits import SETTINGS

from imgindex import ImageIndex
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.paths import PathMap
from imgindex.storage.store import Store


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    made = Catalogue(str(tmp_path / "catalogue.db"), PathMap("/home/ann/it.imgindex"), write=True)
    with contextlib.closing(made):
        made.set_rows(1, 10_000)
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with contextlib.closing(Store.create(str(tmp_path / "it.imgindex"), SETTINGS)) as opened:
        yield opened


@pytest.fixture
def home(index: ImageIndex, folder: Path) -> Path:
    """The folder of an index of twelve pictures and a failure, that is not open."""
    (folder / "broken.jpg").write_text("this is no picture")
    index.add([folder])
    index.close()
    return Path(index.path)


@pytest.fixture
def path(index: ImageIndex, folder: Path) -> Path:
    """An index of twelve pictures that is not open."""
    index.add([folder])
    index.close()
    return Path(index.path)
