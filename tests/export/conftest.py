"""The index that tests of exports share."""

from __future__ import annotations

from pathlib import Path

import pytest
from pictures import draw

from imgindex import ImageIndex


@pytest.fixture
def filled(index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ImageIndex:
    """Twelve images, seen from the folder that holds the index; some with tags and metadata."""
    draw(folder / "b/11.png", 11, (64, 32))
    index.add([folder])
    monkeypatch.chdir(folder.parent)
    index.tag("cat", [folder / "a"])
    index.tag("dog", where="id = 1")
    Path("table.csv").write_text("ImageID,Age,Weight,Place,width\n0,7,1,Oslo,3\n1,8,2.5,,4\n")
    index.import_csv("table.csv")
    return index
