"""What `add` promises: which files it opens, which images it embeds, which are present, what it counts."""

from __future__ import annotations

import shutil
from pathlib import Path

from add_checks import counts, ids, later, means, names, spoil, vector
from grid_mean import GridMean
from pictures import draw

from imgindex import ImageIndex


def test_every_picture_of_a_folder_is_added_with_its_own_vector(index: ImageIndex, folder: Path) -> None:
    assert counts(index.add([folder])) == {"added": 12}
    assert names(index) == sorted(f"{number}.png" for number in range(12))
    for image in index.images():
        assert vector(index, Path(image.path).name) == means(Path(image.path))


def test_ids_follow_the_order_of_the_names(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    assert list(ids(index)) == [f"{number}.png" for number in (0, 1, 2, 3, 4, 5, 10, 11, 6, 7, 8, 9)]
    assert list(ids(index).values()) == list(range(1, 13))


def test_an_index_of_unchanged_images_needs_no_encoder(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    with ImageIndex.open(index.path) as again:
        assert counts(again.add([folder])) == {"unchanged": 12}
        assert again._encoder is None


def test_a_renamed_folder_keeps_all_ids(index: ImageIndex, folder: Path, encoder: GridMean) -> None:
    index.add([folder])
    before = ids(index)
    (folder / "a").rename(folder / "z")
    assert counts(index.add([folder])) == {"renamed": 6, "unchanged": 6}
    assert ids(index) == before
    assert encoder.embedded == 12


def test_a_picture_moved_out_of_the_root_that_is_added_is_followed(index: ImageIndex, folder: Path) -> None:
    index.add([folder / "a", folder / "b"])
    before = ids(index)
    (folder / "a/3.png").rename(folder / "b/three.png")
    assert counts(index.add([folder / "b"])) == {"renamed": 1, "unchanged": 6}
    assert ids(index)["three.png"] == before["3.png"]


# failures


def test_an_image_that_cannot_be_read_is_in_the_report_and_the_ledger(index: ImageIndex, folder: Path) -> None:
    spoil(folder / "a/3.png")
    (folder / "b/empty.png").touch()
    report = index.add([folder])
    assert counts(report) == {"added": 11, "failed": 2}
    assert [(Path(f.path).name, f.stage) for f in report.failures] == [("3.png", "decode"), ("empty.png", "read")]
    assert all(failure.reason for failure in report.failures)
    assert [(f.path, f.reason) for f in index.failures()] == [(f.path, f.reason) for f in report.failures]
    assert "3.png" not in names(index)


def test_an_image_that_is_spoilt_disappears_and_comes_back_under_its_id_when_mended(
    index: ImageIndex, folder: Path, encoder: GridMean
) -> None:
    index.add([folder])
    before, sound = ids(index), folder / "a/3.png"
    data = sound.read_bytes()
    later(spoil(sound))
    assert counts(index.add([folder])) == {"failed": 1, "unchanged": 11}
    assert "3.png" not in names(index)
    sound.write_bytes(data)
    assert counts(index.add([folder])) == {"restored": 1, "unchanged": 11}
    assert ids(index) == before
    assert list(index.failures()) == []
    assert encoder.embedded == 12


def test_a_spoilt_image_brought_back_from_a_backup_with_its_old_time_leaves_the_ledger(
    index: ImageIndex, folder: Path, tmp_path: Path
) -> None:
    index.add([folder])
    shutil.copy2(folder / "a/3.png", tmp_path / "backup.png")
    spoil(folder / "a/3.png")
    index.add([folder])
    shutil.copy2(tmp_path / "backup.png", folder / "a/3.png")
    assert counts(index.add([folder])) == {"restored": 1, "unchanged": 11}
    assert list(index.failures()) == []


def test_a_broken_file_under_two_names_is_two_failures(index: ImageIndex, tmp_path: Path) -> None:
    for number in range(5):
        draw(tmp_path / "p" / f"{number}.png", number)
        spoil(tmp_path / "p" / f"broken {number}.png")
    assert counts(index.add([tmp_path / "p"])) == {"added": 5, "failed": 5}
    assert sorted(Path(failure.path).name for failure in index.failures()) == [f"broken {n}.png" for n in range(5)]


def test_a_dry_run_reports_what_would_be_done_and_changes_nothing(
    index: ImageIndex, folder: Path, encoder: GridMean, opened: list[str]
) -> None:
    (folder / "a/1.png").rename(folder / "one.png")
    index.add([folder])
    (folder / "a/0.png").unlink()
    (folder / "one.png").rename(folder / "uno.png")
    later(draw(folder / "a/2.png", 99))
    draw(folder / "a/new.png", 88)
    before = {path: path.read_bytes() for path in Path(index.path).rglob("*") if path.is_file()}
    opened.clear()
    report = index.add([folder], dry_run=True)
    assert counts(report) == {"added": 2, "updated": 1, "removed": 2, "unchanged": 9}
    after = {path: path.read_bytes() for path in Path(index.path).rglob("*") if path.is_file()}
    assert after == before
    assert (opened, encoder.embedded, len(index)) == ([], 12, 12)


def test_the_report_is_recorded_as_a_run(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    spoil(folder / "a/3.png")
    index.add([folder])
    first, second = index.status()["runs"][::-1]
    assert (first["added"], first["found"]) == (12, 12)
    assert (second["failed"], second["unchanged"]) == (1, 11)
    assert index.status()["roots"] == [str(folder)]
