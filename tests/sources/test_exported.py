"""Which files of a folder imgindex exported, by its manifest."""

from __future__ import annotations

from pathlib import Path

import pytest
from pictures import draw

from imgindex.errors import FolderNotOurs
from imgindex.export.folders import link_folders
from imgindex.sources.exported import FOLDERS_MANIFEST, exported_names, read_manifest


@pytest.mark.parametrize("copy", [False, True])
def test_links_and_copies_are_exported_as_long_as_they_are_as_written(tmp_path: Path, copy: bool) -> None:
    photos = [str(draw(tmp_path / f"photos/{name}.png", number)) for number, name in enumerate("abc")]
    where = tmp_path / "sorted"
    link_folders(where, {"x": photos[:2], "y": photos[2:]}, copy=copy)
    assert exported_names(str(where)) == {"x": {"a.png", "b.png"}, "y": {"c.png"}}
    draw(where / "x/mine.png", 9)
    (where / "x/a.png").unlink()
    draw(where / "x/a.png", 8, size=(40, 40))
    (where / "y/c.png").unlink()
    assert exported_names(str(where)) == {"x": {"b.png"}}


def test_a_manifest_of_another_program_lists_nothing(tmp_path: Path) -> None:
    assert exported_names(str(tmp_path)) == {}
    (tmp_path / FOLDERS_MANIFEST).write_text("[" * 100_000)
    assert exported_names(str(tmp_path)) == {}
    with pytest.raises(FolderNotOurs, match="not a manifest"):
        read_manifest(str(tmp_path))
