"""`add` over archives: like over folders, without a file on disk for any member."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from add_checks import counts
from archived import KINDS, files_below, pack
from grid_mean import GridMean
from pictures import draw

from imgindex import ImageIndex
from imgindex.errors import PathNotFound, SourceUnavailable
from imgindex.sources.registry import ARCHIVES
from imgindex.types import Failure


def vectors(index: ImageIndex) -> dict[str, bytes]:
    return dict(zip(index.paths(), map(np.ndarray.tobytes, index.vectors()), strict=True))


def ids(index: ImageIndex) -> dict[str, int]:
    return {os.path.basename(image.path): image.id for image in index.images()}


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_of_members_are_those_of_files_and_a_second_add_opens_none(
    index: ImageIndex, encoder: GridMean, folder: Path, tmp_path: Path, opened: list[str], kind: str
) -> None:
    index.add([folder])
    of_files = {os.path.relpath(path, folder): vector for path, vector in vectors(index).items()}
    index.remove([folder])
    archive = pack(tmp_path / f"set{kind}", files_below(folder))
    assert counts(index.add(archive)) == {"added": 12}
    assert {os.path.relpath(path, archive): vector for path, vector in vectors(index).items()} == of_files
    assert index.paths()[0] == f"{archive}/a/0.png"
    opened.clear()
    assert counts(index.add(archive, dry_run=True)) == counts(index.add(archive)) == {"unchanged": 12}
    assert opened == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["pictures", "pictures.imgindex", archive.name])


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_rewritten_archive_what_is_the_same_keeps_its_vector(
    index: ImageIndex, encoder: GridMean, folder: Path, tmp_path: Path, kind: str
) -> None:
    files = files_below(folder)
    archive = pack(tmp_path / f"set{kind}", files)
    index.add(archive)
    before, embedded = ids(index), encoder.embedded
    del files["a/0.png"]
    files["a/1.png"] = draw(tmp_path / "other.png", 77).read_bytes()
    files["new/12.png"] = draw(tmp_path / "other.png", 78).read_bytes()
    pack(archive, dict(reversed(files.items())))
    report = index.add(archive)
    assert counts(report) == {"added": 1, "updated": 1, "unchanged": 10, "removed": 1}
    assert encoder.embedded == embedded + 2
    after = ids(index)
    assert after == {name: before.get(name, after["12.png"]) for name in after}
    pack(archive, files_below(folder))
    assert counts(index.add(archive)) == {"restored": 1, "updated": 1, "unchanged": 10, "removed": 1}
    assert ids(index)["0.png"] == before["0.png"]


def test_only_rewritten_members_of_a_zip_are_opened(
    index: ImageIndex, folder: Path, tmp_path: Path, opened: list[str]
) -> None:
    files = files_below(folder)
    archive = pack(tmp_path / "deflated.zip", files)
    index.add(archive)
    opened.clear()
    files["b/7.png"] = draw(tmp_path / "other.png", 77).read_bytes()
    pack(archive, dict(reversed(files.items())))
    assert counts(index.add(archive)) == {"updated": 1, "unchanged": 11}
    assert opened == ["7.png"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_is_cut_off_removes_nothing(index: ImageIndex, folder: Path, tmp_path: Path, kind: str) -> None:
    archive = pack(tmp_path / f"set{kind}", files_below(folder))
    index.add(archive)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 3])
    report = index.add(archive)
    assert (report.failed, report.removed) == (1, 0)
    assert [failure.path for failure in index.failures()] == [str(archive)]
    assert len(index) == 12
    archive.write_bytes(whole)
    assert index.add(archive).failed == 0
    assert list(index.failures()) == []
    archive.unlink()
    shutil.rmtree(folder)
    assert counts(index.add(tmp_path)) == {"removed": 12}


def test_moving_a_picture_into_an_archive_keeps_its_id(index: ImageIndex, folder: Path, tmp_path: Path) -> None:
    index.add([folder])
    before = ids(index)
    archive = pack(tmp_path / "stored.zip", files_below(folder))
    for path in folder.rglob("*.png"):
        path.unlink()
    assert counts(index.add([folder, archive])) == {"renamed": 12}
    assert ids(index) == before
    with zipfile.ZipFile(archive) as made:
        made.extractall(folder)
    archive.unlink()
    assert counts(index.add(folder)) == {"renamed": 12}
    assert ids(index) == before


def test_an_archive_in_a_folder_is_counted_unless_it_is_asked_for(index: ImageIndex, folder: Path) -> None:
    pack(folder / "set.zip", {"1.png": draw(folder.parent / "other.png", 77).read_bytes()})
    report = index.add(folder)
    assert (report.found, report.skipped) == (12, {".zip": 1})
    assert counts(index.add(folder, archives=True)) == {"added": 1, "unchanged": 12}
    # Not searched this time, and still there.
    assert counts(index.add(folder)) == {"unchanged": 12}
    assert len(index) == 13
    pack(folder / "set.zip", {"2.png": b""})
    assert index.add(folder).removed == 1
    assert len(index) == 12
    (folder / "set.zip").unlink()
    assert counts(index.add(folder)) == {"unchanged": 12}
    assert list(index.failures()) == []


def test_a_member_that_is_no_picture_is_a_failure_that_is_not_tried_again(
    index: ImageIndex, tmp_path: Path, opened: list[str]
) -> None:
    archive = pack(tmp_path / "stored.zip", {"1.png": b"no picture", "empty.png": b"", "a/../2.png": b"none"})
    report = index.add(archive)
    assert {failure.path: failure.stage for failure in report.failures} == {
        f"{archive}/1.png": "decode",
        f"{archive}/empty.png": "read",
        f"{archive}/a/%2E%2E/2.png": "decode",
    }
    opened.clear()
    assert index.add(archive).failed == 3
    assert opened == []
    assert index.add(archive, retry_failed=True).failed == 3
    assert len(opened) == 3
    pack(archive, {"1.png": draw(tmp_path / "other.png", 7).read_bytes()})
    assert counts(index.add(archive)) == {"added": 1}
    assert list(index.failures()) == []


def test_a_file_without_an_ending_in_an_archive_is_recognised_once(index: ImageIndex, tmp_path: Path) -> None:
    data = draw(tmp_path / "other.png", 7).read_bytes()
    for kind in KINDS:
        archive = pack(tmp_path / f"set{kind}", {"IMG_1": data, "README": b"a text" * 20})
        report = index.add(archive)
        assert (report.found, report.failed, report.skipped) == (1, 0, {"": 1})
        assert index.add(archive).unchanged == 1


def test_an_archive_that_vanishes_during_a_run_ends_it_and_adds_no_failures(
    index: ImageIndex, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(tmp_path / "stored.zip", files_below(folder))
    reads = iter(range(100))
    listing = ARCHIVES._listing

    def vanish(path: str):  # type: ignore[no-untyped-def]
        if next(reads) >= 8:
            raise FileNotFoundError(2, "No such file or directory", path)
        return listing(path)

    monkeypatch.setattr(ARCHIVES, "_listing", vanish)
    with pytest.raises(SourceUnavailable, match="No such file"):
        index.add(archive)
    monkeypatch.undo()
    assert list(index.failures()) == []
    assert index.add(archive).failed == 0
    assert len(index) == 12


def test_a_folder_in_an_archive_can_be_added_and_removed(index: ImageIndex, folder: Path, tmp_path: Path) -> None:
    archive = pack(tmp_path / "stored.zip", files_below(folder))
    assert counts(index.add(archive / "a")) == {"added": 6}
    assert counts(index.add(archive)) == {"added": 6, "unchanged": 6}
    assert len(index.remove(archive / "b")) == 6
    assert len(index.remove(archive)) == 6
    for path in (archive / "c", tmp_path / "gone.zip"):
        with pytest.raises(PathNotFound, match="cannot read"):
            index.add(path)


def test_names_that_differ_in_how_an_accent_is_written_are_two_members(index: ImageIndex, tmp_path: Path) -> None:
    names = ["caf\u00e9.png", "cafe\u0301.png"]
    pictures = [draw(tmp_path / "other.png", number).read_bytes() for number in (1, 2)]
    archive = pack(tmp_path / "stored.zip", dict(zip(names[:1], pictures, strict=False)))
    index.add(archive)
    pack(archive, dict(zip(names, pictures, strict=True)))
    assert counts(index.add(archive)) == {"added": 1, "unchanged": 1}
    assert index.paths() == [f"{archive}/{name}" for name in names]


def test_the_failure_of_an_archive_that_was_taken_for_an_image_is_forgotten(index: ImageIndex, tmp_path: Path) -> None:
    archive = pack(tmp_path / "stored.zip", {"1.png": draw(tmp_path / "other.png", 7).read_bytes()})
    with index._store.writing() as writer:
        writer.fail(Failure(str(archive), "decode", "not an image that Pillow can read"))
        writer.commit()
    assert counts(index.add(archive)) == {"added": 1}
    assert list(index.failures()) == []
