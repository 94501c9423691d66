"""What `add` finds on disk: new, changed, restored and removed files, and those that it does not open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from add_checks import counts, ids, later, names, spoil
from grid_mean import GridMean
from pictures import draw

from imgindex import ImageIndex
from imgindex.errors import PathNotFound
from imgindex.ingest.worklist import WorkList
from imgindex.sources import local
from imgindex.types import Progress


def test_only_what_is_new_is_opened(index: ImageIndex, folder: Path, encoder: GridMean, opened: list[str]) -> None:
    index.add([folder])
    opened.clear()
    draw(folder / "a/new.png", 77)
    assert counts(index.add([folder])) == {"added": 1, "unchanged": 12}
    assert opened == ["new.png"]
    assert encoder.embedded == 13


def test_a_scan_that_ends_with_an_error_leaves_no_database_open(
    index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[WorkList] = []
    close = WorkList.close
    monkeypatch.setattr(WorkList, "close", lambda work_list: (closed.append(work_list), close(work_list)))

    def fail(progress: Progress) -> None:
        raise OSError(progress.stage)

    with pytest.raises(OSError, match="scan"):
        index.add([folder], on_progress=fail)
    assert len(closed) == 2  # what is to be opened, and what is to be recorded


def test_what_is_unchanged_is_not_even_opened(
    index: ImageIndex, folder: Path, encoder: GridMean, opened: list[str]
) -> None:
    index.add([folder])
    opened.clear()
    assert counts(index.add([folder])) == {"unchanged": 12}
    assert opened == []
    assert encoder.embedded == 12


def test_a_removed_image_is_in_no_answer(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    (folder / "a/3.png").unlink()
    assert counts(index.add([folder])) == {"removed": 1, "unchanged": 11}
    assert "3.png" not in names(index)
    assert len(index) == len(index.vectors()) == 11
    assert "3.png" not in {Path(match.path).name for match in index.similar(folder / "a/4.png", n=50)}


def test_a_restored_image_reappears_under_its_id_without_being_embedded(
    index: ImageIndex, folder: Path, tmp_path: Path, encoder: GridMean, opened: list[str]
) -> None:
    index.add([folder])
    before = ids(index)
    shutil.move(folder / "a/3.png", tmp_path / "away.png")
    index.add([folder])
    shutil.move(tmp_path / "away.png", folder / "a/3.png")
    opened.clear()
    assert counts(index.add([folder])) == {"restored": 1, "unchanged": 11}
    assert ids(index) == before
    assert opened == ["3.png"]  # its ctime shows that something happened to it
    assert encoder.embedded == 12


def test_a_folder_that_was_away_reappears_without_being_opened(
    index: ImageIndex, folder: Path, tmp_path: Path, opened: list[str]
) -> None:
    index.add([folder])
    shutil.move(folder / "a", tmp_path / "away")
    assert counts(index.add([folder])) == {"removed": 6, "unchanged": 6}
    shutil.move(tmp_path / "away", folder / "a")
    opened.clear()
    assert counts(index.add([folder])) == {"restored": 6, "unchanged": 6}
    assert opened == []


def test_an_image_restored_with_a_new_time_is_opened_but_not_embedded(
    index: ImageIndex, folder: Path, encoder: GridMean
) -> None:
    index.add([folder])
    data = (folder / "a/3.png").read_bytes()
    (folder / "a/3.png").unlink()
    index.add([folder])
    (folder / "a/3.png").write_bytes(data)
    later(folder / "a/3.png")
    assert counts(index.add([folder])) == {"restored": 1, "unchanged": 11}
    assert encoder.embedded == 12


def test_an_emptied_folder_is_removed_and_what_lies_elsewhere_is_not(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    shutil.rmtree(folder / "a")
    assert counts(index.add([folder / "b"])) == {"unchanged": 6}
    assert len(index) == 12
    assert counts(index.add([folder])) == {"removed": 6, "unchanged": 6}
    assert len(index) == 6


def test_a_missing_root_is_an_error_that_changes_nothing(index: ImageIndex, folder: Path, opened: list[str]) -> None:
    index.add([folder])
    opened.clear()
    draw(folder / "b/new.png", 77)
    shutil.move(folder / "a", folder / "unmounted")
    with pytest.raises(PathNotFound, match="/a: No such file"):
        index.add([folder / "b", folder / "a"])
    assert len(index) == 12
    assert opened == []


def test_a_root_that_cannot_be_listed_is_an_error_that_changes_nothing(
    index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add([folder])
    monkeypatch.setattr(os, "scandir", _refuse(os.scandir, str(folder)))
    with pytest.raises(PathNotFound, match="Permission denied"):
        index.add([folder])
    assert len(index) == 12


def test_a_folder_that_cannot_be_listed_keeps_its_images_and_is_a_failure_until_it_can(
    index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add([folder])
    with monkeypatch.context() as patch:
        patch.setattr(local.os, "scandir", _refuse(os.scandir, str(folder / "a")))
        report = index.add([folder])
    assert counts(report) == {"failed": 1, "unchanged": 6}
    assert [(failure.stage, failure.path) for failure in index.failures()] == [("find", str(folder / "a"))]
    assert len(index) == 12
    assert counts(index.add([folder])) == {"unchanged": 12}
    assert list(index.failures()) == []


def _refuse(function: Callable[..., object], path: str) -> Callable[..., object]:
    def refusing(where: str) -> object:
        if os.fspath(where) == path:
            raise PermissionError(13, "Permission denied", path)
        return function(where)

    return refusing


def test_an_index_reached_through_a_link_knows_its_files_by_their_real_path(tmp_path: Path, encoder: GridMean) -> None:
    for number in range(3):
        draw(tmp_path / "real/pictures" / f"{number}.png", number)
    spoil(tmp_path / "real/pictures/3.png")
    (tmp_path / "link").symlink_to("real")
    with ImageIndex.create(tmp_path / "link/it.imgindex", encoder=encoder) as index:
        root = tmp_path / "real/pictures"
        assert counts(index.add([root])) == {"added": 3, "failed": 1}
        (root / "0.png").unlink()
        report = index.add([root])
        assert counts(report) == {"removed": 1, "unchanged": 2, "failed": 1}
        assert report.failures == ()
        assert [image.id for image in index.remove([root / "1.png"])] == [2]


def test_a_failure_is_not_tried_again_until_its_file_changes(
    index: ImageIndex, folder: Path, opened: list[str]
) -> None:
    spoil(folder / "a/3.png")
    index.add([folder])
    opened.clear()
    report = index.add([folder])
    assert (counts(report), report.failures, opened) == ({"failed": 1, "unchanged": 11}, (), [])
    later(draw(folder / "a/3.png", 3))
    assert counts(index.add([folder])) == {"added": 1, "unchanged": 11}
    assert opened == ["3.png"]
    assert list(index.failures()) == []


def test_known_failures_are_tried_again_on_demand(index: ImageIndex, folder: Path, opened: list[str]) -> None:
    spoil(folder / "a/3.png")
    index.add([folder])
    opened.clear()
    report = index.add([folder], retry_failed=True)
    assert counts(report) == {"failed": 1, "unchanged": 11}
    assert [Path(failure.path).name for failure in report.failures] == opened == ["3.png"]


def test_a_failure_whose_file_is_gone_is_forgotten(index: ImageIndex, folder: Path) -> None:
    spoil(folder / "a/3.png").rename(folder / "a/broken.png")
    index.add([folder])
    (folder / "a/broken.png").unlink()
    assert counts(index.add([folder])) == {"unchanged": 11}
    assert list(index.failures()) == []


def test_broken_links_and_special_files_are_failures_that_never_block(index: ImageIndex, folder: Path) -> None:
    (folder / "a/link.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "a/pipe.png")
    report = index.add([folder])
    assert counts(report) == {"added": 12, "failed": 2}
    assert {Path(failure.path).name for failure in report.failures} == {"link.png", "pipe.png"}
    draw(folder / "a/nowhere.png", 50)
    (folder / "a/pipe.png").unlink()
    (folder / "a/pipe.png").mkdir()
    # A link and the file that it leads to are one image.
    assert counts(index.add([folder])) == {"added": 1, "unchanged": 12}
    assert list(index.failures()) == []


def test_a_link_whose_target_comes_back_leaves_the_ledger(index: ImageIndex, folder: Path, tmp_path: Path) -> None:
    draw(tmp_path / "disk/0.png", 90)
    (folder / "link.png").symlink_to(tmp_path / "disk/0.png")
    index.add([folder])
    (tmp_path / "disk").rename(tmp_path / "unmounted")
    assert counts(index.add([folder])) == {"failed": 1, "unchanged": 12}
    assert len(index) == 12
    (tmp_path / "unmounted").rename(tmp_path / "disk")
    assert counts(index.add([folder])) == {"restored": 1, "unchanged": 12}
    assert list(index.failures()) == []


def test_excluded_files_are_not_added(index: ImageIndex, folder: Path) -> None:
    assert counts(index.add([folder], exclude=["b", "1*.png", "a/2.png"])) == {"added": 4}
    assert names(index) == ["0.png", "3.png", "4.png", "5.png"]


def test_excluding_what_is_known_does_not_remove_it(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    assert counts(index.add([folder], exclude=["b"])) == {"unchanged": 6}
    assert len(index) == 12


def test_the_folder_of_the_index_is_not_searched(index: ImageIndex, folder: Path, tmp_path: Path) -> None:
    draw(Path(index.path) / "thumbnails/0.png", 0)
    assert counts(index.add([tmp_path])) == {"added": 12}


def test_a_file_may_be_a_root_and_one_given_twice_counts_once(index: ImageIndex, folder: Path) -> None:
    assert counts(index.add([folder / "a/3.png"])) == {"added": 1}
    assert counts(index.add([folder / "a/3.png", folder, folder / "b"])) == {"added": 11, "unchanged": 1}
