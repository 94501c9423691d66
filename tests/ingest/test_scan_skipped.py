"""What a scan skips and counts, which files it opens, and which failures it tries again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from pictures import draw

import imgindex.decoding.plugins
import imgindex.ingest.scan
from imgindex import ImageIndex
from imgindex.sources.registry import have_image_content
from imgindex.types import Failure


@pytest.fixture
def recognised(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files without an ending that are opened from now on."""
    seen: list[str] = []

    def look(paths: list[str]) -> Iterator[bool | None]:
        seen.extend(Path(path).name for path in paths)
        return have_image_content(paths)

    monkeypatch.setattr(imgindex.ingest.scan, "have_image_content", look)
    return seen


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("not a picture")


def test_what_is_skipped_is_reported_by_its_ending(index: ImageIndex, tmp_path: Path) -> None:
    draw(tmp_path / "photos/a.png", 1)
    draw(tmp_path / "photos/.b.png", 2)
    draw(tmp_path / "photos/c_small.png", 3)
    write(tmp_path / "photos", "d.mov", "e.MOV", "sub/f.mov", "g.txt", "Makefile", "README")
    expected: dict[str, int | Mapping[str, int]] = {"found": 1, "hidden": 1, "excluded": 1, "exported": 0}
    expected["skipped"] = {".mov": 3, "": 2, ".txt": 1}
    for dry_run in (True, False, False, True):
        report = index.add(tmp_path / "photos", exclude=["*_small*"], dry_run=dry_run)
        assert {name: getattr(report, name) for name in expected} == expected
        assert list(report.skipped) == [".mov", "", ".txt"]
    assert index.status()["runs"][0]["skipped"] == expected["skipped"]


def test_images_without_an_ending_are_added_and_other_such_files_are_opened_once(
    index: ImageIndex, tmp_path: Path, recognised: list[str]
) -> None:
    draw(tmp_path / "photos/a.png", 1).rename(tmp_path / "photos/a")
    draw(tmp_path / "photos/b.png", 2).rename(tmp_path / "photos/b.png?width=200")
    write(tmp_path / "photos", "Makefile", "README", "c.txt")
    assert index.add(tmp_path / "photos").added == 2
    assert recognised == ["Makefile", "README", "a", "b.png?width=200"]
    recognised.clear()
    report = index.add(tmp_path / "photos")
    assert (report.unchanged, report.skipped) == (2, {"": 2, ".txt": 1})
    assert recognised == []
    # One that changed is opened again, and may be an image now.
    draw(tmp_path / "new.png", 3).rename(tmp_path / "photos/README")
    report = index.add(tmp_path / "photos")
    assert (report.added, report.skipped) == (1, {"": 1, ".txt": 1})
    assert recognised == ["README"]
    (tmp_path / "photos/Makefile").unlink()
    assert index.add(tmp_path / "photos").skipped == {".txt": 1}


def test_an_image_without_an_ending_that_is_no_image_any_more_is_a_failure(index: ImageIndex, tmp_path: Path) -> None:
    photo = draw(tmp_path / "photos/a.png", 1).rename(tmp_path / "photos/a")
    assert index.add(tmp_path / "photos").added == 1
    photo.write_text("now a text, which is longer")
    report = index.add(tmp_path / "photos")
    assert (report.failed, [Path(one.path).name for one in report.failures]) == (1, ["a"])


def test_a_named_file_without_an_ending_is_tried_whatever_it_holds(index: ImageIndex, tmp_path: Path) -> None:
    write(tmp_path / "photos", "README")
    assert index.add(tmp_path / "photos").skipped == {"": 1}
    report = index.add(tmp_path / "photos/README")
    assert (report.found, report.failed, report.skipped) == (1, 1, {})


def test_a_closed_file_without_an_ending_is_counted_and_tried_again(
    index: ImageIndex, tmp_path: Path, recognised: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "photos/a.png", 1).rename(tmp_path / "photos/a")
    monkeypatch.setattr("imgindex.sources.registry.LOCAL.read_head", lambda path: None)
    assert index.add(tmp_path / "photos").skipped == {"": 1}
    monkeypatch.undo()
    assert index.add(tmp_path / "photos").added == 1


def test_links_that_imgindex_made_are_counted_and_a_photo_beside_them_is_added(
    index: ImageIndex, folder: Path, tmp_path: Path
) -> None:
    from imgindex.export.folders import link_folders

    index.add(folder)
    link_folders(folder / "sorted", {"all": index.paths()})
    draw(folder / "sorted/all/mine.png", 77)
    report = index.add(folder)
    assert (report.added, report.unchanged, report.exported) == (1, 12, 12)


def test_camera_raw_files_are_skipped_until_their_decoder_is_installed(
    index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "photos", "a.DNG", "b.nef")
    monkeypatch.setattr(imgindex.decoding.plugins, "RAW_MODULE", "a_module_that_is_not_installed")
    report = index.add(tmp_path / "photos")
    assert (report.found, report.skipped) == (0, {".dng": 1, ".nef": 1})
    monkeypatch.setattr(imgindex.decoding.plugins, "RAW_MODULE", "json")
    report = index.add(tmp_path / "photos")
    assert (report.found, report.skipped) == (2, {})


def test_a_failure_is_tried_again_once_its_decoder_is_installed(index: ImageIndex, tmp_path: Path) -> None:
    photos = [draw(tmp_path / f"photos/{name}.png", number) for number, name in enumerate("abc")]
    for path, decoder in zip(photos, ["json", "a_module_that_is_not_installed", ""], strict=True):
        info = os.stat(path)
        failure = Failure(str(path), "decode", "needs a decoder", info.st_size, info.st_mtime_ns, decoder=decoder)
        with index._store.writing() as writer:
            writer.fail(failure)
            writer.commit()
    assert [one.decoder for one in index.failures()] == ["json", "a_module_that_is_not_installed", ""]
    assert index.add(tmp_path / "photos", dry_run=True).added == 1
    report = index.add(tmp_path / "photos")
    assert (report.added, report.failed, report.failures) == (1, 2, ())
    assert [Path(one.path).name for one in index.failures()] == ["b.png", "c.png"]
