"""Here an index decodes as it does for users, in processes; a hostile decoder may be among them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import hostile
import pytest
from decoder_checks import TIGHT
from grid_mean import GRID_RECIPE, GridMean

from imgindex import ImageIndex
from imgindex.decoding.pool import DecoderPool


@pytest.fixture(autouse=True)
def decoding_here() -> None:
    """Decode in other processes."""


@pytest.fixture
def index(tmp_path: Path, encoder: GridMean) -> Iterator[ImageIndex]:
    """An empty index beside the pictures, with the encoder of the tests."""
    with ImageIndex.create(tmp_path / "pictures.imgindex", encoder=encoder) as opened:
        yield opened


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that holds the hostile decoder, where this process and so its children look for pillow_jxl."""
    folder = tmp_path / "plugin"
    folder.mkdir()
    shutil.copy(hostile.__file__, folder / "pillow_jxl.py")
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def decoders(plugin: Path) -> Iterator[DecoderPool]:
    opened = DecoderPool(GRID_RECIPE, TIGHT)
    yield opened
    opened.close()
