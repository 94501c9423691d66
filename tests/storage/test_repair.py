"""Repair: sound rows stay, lost vectors are made again, and files whose content differs are dropped by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from damaged_catalogues import edit, repair
from grid_mean import GridMean
from index_processes import CATALOGUE, REPAIR, Died, check_sound, output
from pictures import draw

from imgindex import ImageIndex
from imgindex.errors import FormatTooNew, IndexDamaged, IndexNotFound


@pytest.mark.parametrize("column", ["width", "height", "format", "size", "mtime_ns"])
def test_a_wrong_size_or_format_of_a_picture_is_corrected_from_its_file(home: Path, column: str) -> None:
    with ImageIndex.open(home) as index:
        before = list(index.images())
    edit(home, f"update images set {column} = {'17' if column != 'format' else repr('PNF')} where id = 4")
    repair(home)
    with ImageIndex.open(home) as index:
        assert list(index.images()) == before


def test_an_image_whose_content_differs_from_the_catalogue_is_dropped_by_name(home: Path) -> None:
    edit(home, f"update images set sha256 = x'{'ab' * 32}' where id = 4")
    report = ImageIndex.repair(home, encoder=GridMean())
    assert [Path(failure.path).name for failure in report.dropped] == ["3.png"]
    with ImageIndex.open(home) as index:
        assert 4 not in index.ids()


def test_a_wrong_location_of_a_vector_is_found_by_its_crc32_and_the_vector_is_made_again(home: Path) -> None:
    with ImageIndex.open(home) as index:
        vectors = index.vectors()
    edit(home, "update images set row = 40 where id = 2", "update images set crc32 = 7 where id = 3")
    report = ImageIndex.repair(home, encoder=GridMean())
    assert (report.embedded, report.dropped) == (2, ())
    with ImageIndex.open(home) as index:
        np.testing.assert_array_equal(index.vectors(), vectors)
        assert index.ids().tolist() == list(range(1, 13))


def test_a_missing_catalogue_is_refused_with_the_way_out(home: Path, tmp_path: Path) -> None:
    (home / "catalogue.db").unlink()
    with pytest.raises(IndexDamaged, match="is missing") as caught:
        ImageIndex.repair(home, encoder=GridMean())
    assert "put it back from a copy" in caught.value.hint
    with pytest.raises(IndexNotFound):
        ImageIndex.repair(tmp_path / "nowhere", encoder=GridMean())


def test_a_catalogue_of_a_newer_version_is_not_repaired(home: Path) -> None:
    edit(home, "pragma user_version = 99")
    before = (home / "catalogue.db").read_bytes()
    with pytest.raises(FormatTooNew):
        ImageIndex.repair(home, encoder=GridMean())
    assert (home / "catalogue.db").read_bytes() == before


def test_used_ids_are_not_used_again_after_a_repair(home: Path, folder: Path) -> None:
    edit(home, "delete from images where id > 10", "update images set width = 5 where id = 1")
    repair(home)
    with ImageIndex.open(home, encoder=GridMean()) as index:
        draw(folder / "new.png", 90)
        index.add([folder])
        assert [id for id in index.ids().tolist() if id > 10] == [13, 14, 15]


def test_an_index_that_was_repaired_meanwhile_is_the_one_that_is_written(path: Path, folder: Path) -> None:
    """Repair replaces a damaged catalogue, which a process that has it open does not see."""
    with ImageIndex.open(path, encoder=GridMean()) as index:
        assert len(index) == 12
        data = (path / CATALOGUE).read_bytes()
        with open(path / CATALOGUE, "r+b") as file:
            file.seek(data.rindex(b"PNG"))
            file.write(b"?")
        output(REPAIR, path)
        draw(folder / "new.png", 50)
        assert index.add([folder]).added == 1
        assert len(index.paths()) == 13
        assert index.verify(full=True).ok


def test_a_repair_that_dies_leaves_a_damaged_catalogue_known_as_damaged(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but its checksum knows that this catalogue is damaged, so the checksum stays to the last."""
    from imgindex.storage import durable

    data = (path / CATALOGUE).read_bytes()
    with open(path / CATALOGUE, "r+b") as file:
        file.seek(data.rindex(b"PNG"))
        file.write(b"?")

    def dying(path: str, target: str) -> None:
        raise Died

    copy = shutil.copytree(path, path.parent / "copy.imgindex")
    with monkeypatch.context() as patch:
        patch.setattr(durable.disk, "rename", dying)
        with pytest.raises(Died):
            ImageIndex.repair(copy)
    assert ImageIndex.repair(copy).mended != ()
    assert not list(copy.glob(f"{CATALOGUE}.new*"))
    check_sound(copy)
