"""What `add` promises: which files it opens, which images it embeds, which are present, what it counts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from grid_mean import GRID_RECIPE, GridMean
from pictures import draw

import imgindex.ingest.pipeline
from imgindex import ImageIndex
from imgindex.errors import PathNotFound
from imgindex.results import AddReport
from imgindex.sources import local
from imgindex.sources.content import Content, read_content

KINDS = ("added", "updated", "renamed", "unchanged", "reused", "restored", "failed")


def counts(report: AddReport) -> dict[str, int]:
    """The counts that are not 0; every file found must be in exactly one of them."""
    assert report.interrupted or sum(getattr(report, kind) for kind in KINDS) == report.found, report
    return {kind: value for kind, value in asdict(report).items() if kind in (*KINDS, "removed") and value}


def names(index: ImageIndex) -> list[str]:
    return sorted(Path(path).name for path in index.paths())


def ids(index: ImageIndex) -> dict[str, int]:
    return {Path(image.path).name: image.id for image in index.images()}


def vector(index: ImageIndex, name: str) -> list[float]:
    paths = [Path(path).name for path in index.paths()]
    return index.vectors()[paths.index(name)].astype(np.float64).round(5).tolist()


def means(path: Path) -> list[float]:
    """The vector of a plain picture, read without any of our code."""
    from PIL import Image

    return (np.array(Image.open(path).convert("RGB").getpixel((0, 0)) * 4) / 255).round(5).tolist()


def spoil(path: Path, text: str = "not a picture") -> Path:
    path.write_text(text)
    return path


def later(path: Path) -> None:
    """Give a file a later time than any clock has given it."""
    info = path.stat()
    os.utime(path, ns=(info.st_mtime_ns, info.st_mtime_ns + 10**9))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are opened from now on."""
    seen: list[str] = []

    def read(path: str) -> Content:
        seen.append(Path(path).name)
        return read_content(path)

    monkeypatch.setattr(imgindex.ingest.pipeline, "read_content", read)
    return seen


def test_every_picture_of_a_folder_is_added_with_its_own_vector(index: ImageIndex, folder: Path) -> None:
    assert counts(index.add([folder])) == {"added": 12}
    assert names(index) == sorted(f"{number}.png" for number in range(12))
    for image in index.images():
        assert vector(index, Path(image.path).name) == means(Path(image.path))


def test_ids_follow_the_order_of_the_names(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    assert list(ids(index)) == [f"{number}.png" for number in (0, 1, 2, 3, 4, 5, 10, 11, 6, 7, 8, 9)]
    assert list(ids(index).values()) == list(range(1, 13))


def test_only_what_is_new_is_opened(index: ImageIndex, folder: Path, encoder: GridMean, opened: list[str]) -> None:
    index.add([folder])
    opened.clear()
    draw(folder / "a/new.png", 77)
    assert counts(index.add([folder])) == {"added": 1, "unchanged": 12}
    assert opened == ["new.png"]
    assert encoder.embedded == 13


def test_what_is_unchanged_is_not_even_opened(
    index: ImageIndex, folder: Path, encoder: GridMean, opened: list[str]
) -> None:
    index.add([folder])
    opened.clear()
    assert counts(index.add([folder])) == {"unchanged": 12}
    assert opened == []
    assert encoder.embedded == 12


def test_an_index_of_unchanged_images_needs_no_encoder(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    with ImageIndex.open(index.path) as again:
        assert counts(again.add([folder])) == {"unchanged": 12}
        assert again._encoder is None


def test_a_picture_touched_but_not_changed_is_opened_once_and_not_embedded(
    index: ImageIndex, folder: Path, encoder: GridMean, opened: list[str]
) -> None:
    index.add([folder])
    later(folder / "a/3.png")
    opened.clear()
    assert counts(index.add([folder])) == {"unchanged": 12}
    assert counts(index.add([folder])) == {"unchanged": 12}
    assert opened == ["3.png"]
    assert encoder.embedded == 12


def test_a_renamed_image_keeps_its_id_and_is_not_embedded_again(
    index: ImageIndex, folder: Path, encoder: GridMean
) -> None:
    index.add([folder])
    before = ids(index)
    (folder / "a/3.png").rename(folder / "b/three.png")
    assert counts(index.add([folder])) == {"renamed": 1, "unchanged": 11}
    assert ids(index)["three.png"] == before["3.png"]
    assert "3.png" not in names(index)
    assert encoder.embedded == 12


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


def test_a_copy_is_an_image_of_its_own_with_the_same_vector_and_no_work(
    index: ImageIndex, folder: Path, encoder: GridMean
) -> None:
    index.add([folder])
    shutil.copy(folder / "a/3.png", folder / "b/copy.png")
    assert counts(index.add([folder])) == {"reused": 1, "unchanged": 12}
    assert vector(index, "copy.png") == vector(index, "3.png")
    assert len(set(ids(index).values())) == 13
    assert encoder.embedded == 12


def test_the_same_bytes_twice_in_one_run_are_embedded_once(
    index: ImageIndex, tmp_path: Path, encoder: GridMean
) -> None:
    for number in range(50):
        draw(tmp_path / "same" / f"{number}.png", 5)
    assert counts(index.add([tmp_path / "same"])) == {"added": 1, "reused": 49}
    assert encoder.embedded == 1
    assert (index.vectors() == index.vectors()[0]).all()


def test_a_changed_image_is_embedded_again_under_its_id(index: ImageIndex, folder: Path, encoder: GridMean) -> None:
    index.add([folder])
    before = ids(index)
    later(draw(folder / "a/3.png", 200))
    assert counts(index.add([folder])) == {"updated": 1, "unchanged": 11}
    assert ids(index) == before
    assert vector(index, "3.png") == means(folder / "a/3.png")
    assert encoder.embedded == 13


def test_two_images_that_changed_places_are_not_embedded_again(
    index: ImageIndex, folder: Path, encoder: GridMean
) -> None:
    index.add([folder])
    for here, there in (("0", "spare"), ("1", "0"), ("spare", "1")):
        (folder / f"a/{here}.png").rename(folder / f"a/{there}.png")
    later(folder / "a/0.png")
    assert counts(index.add([folder])) == {"updated": 2, "unchanged": 10}
    assert vector(index, "0.png") == means(folder / "a/0.png") != vector(index, "1.png")
    assert encoder.embedded == 12


def test_a_removed_image_is_in_no_answer(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    (folder / "a/3.png").unlink()
    assert counts(index.add([folder])) == {"removed": 1, "unchanged": 11}
    assert "3.png" not in names(index)
    assert len(index) == len(index.vectors()) == 11
    assert "3.png" not in {Path(match.path).name for match in index.similar(folder / "a/4.png", n=50)}


def test_a_restored_image_reappears_under_its_id_without_being_opened(
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
    assert opened == []
    assert encoder.embedded == 12


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
    with ImageIndex.create(tmp_path / "link/it.imgindex", recipe=GRID_RECIPE) as index:
        index.encoder = encoder
        root = tmp_path / "real/pictures"
        assert counts(index.add([root])) == {"added": 3, "failed": 1}
        (root / "0.png").unlink()
        report = index.add([root])
        assert counts(report) == {"removed": 1, "unchanged": 2, "failed": 1}
        assert report.failures == ()
        assert [image.id for image in index.remove([root / "1.png"])] == [2]


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


def test_a_failure_whose_file_is_gone_is_forgotten(index: ImageIndex, folder: Path) -> None:
    spoil(folder / "a/3.png").rename(folder / "a/broken.png")
    index.add([folder])
    (folder / "a/broken.png").unlink()
    assert counts(index.add([folder])) == {"unchanged": 11}
    assert list(index.failures()) == []


def test_a_broken_file_under_two_names_is_two_failures(index: ImageIndex, tmp_path: Path) -> None:
    for number in range(5):
        draw(tmp_path / "p" / f"{number}.png", number)
        spoil(tmp_path / "p" / f"broken {number}.png")
    assert counts(index.add([tmp_path / "p"])) == {"added": 5, "failed": 5}
    assert sorted(Path(failure.path).name for failure in index.failures()) == [f"broken {n}.png" for n in range(5)]


def test_broken_links_and_special_files_are_failures_that_never_block(index: ImageIndex, folder: Path) -> None:
    (folder / "a/link.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "a/pipe.png")
    report = index.add([folder])
    assert counts(report) == {"added": 12, "failed": 2}
    assert {Path(failure.path).name for failure in report.failures} == {"link.png", "pipe.png"}
    draw(folder / "a/nowhere.png", 50)
    (folder / "a/pipe.png").unlink()
    (folder / "a/pipe.png").mkdir()
    assert counts(index.add([folder])) == {"added": 1, "reused": 1, "unchanged": 12}
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


def test_files_that_vanish_between_the_scan_and_the_reading_do_not_end_the_run(
    index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add([folder / "a"])
    later(draw(folder / "a/3.png", 99))

    def read(path: str) -> Content:
        if Path(path).name in ("3.png", "7.png"):
            os.unlink(path)
        return read_content(path)

    monkeypatch.setattr(imgindex.ingest.pipeline, "read_content", read)
    report = index.add([folder])
    assert report.added == 5
    assert {(Path(failure.path).name, failure.stage) for failure in report.failures} == {
        ("3.png", "read"),
        ("7.png", "read"),
    }
    assert names(index) == sorted(f"{number}.png" for number in range(12) if number not in (3, 7))
    assert list(index.failures()) == []


class Blind(GridMean):
    """Gives vectors that are not finite for white pictures."""

    def encode(self, batch: np.ndarray) -> np.ndarray:
        vectors = super().encode(batch)
        vectors[(vectors == 1).all(axis=1)] = np.nan
        return vectors


def test_a_picture_whose_vector_is_not_finite_is_a_failure(index: ImageIndex, folder: Path) -> None:
    index.encoder = Blind()
    for name in ("white.png", "white too.png"):
        draw(folder / "a" / name, (255, 255, 255))
    report = index.add([folder])
    assert counts(report) == {"added": 12, "failed": 2}
    assert {failure.stage for failure in report.failures} == {"embed"}
    assert np.isfinite(index.vectors()).all()
    assert counts(index.add([folder])) == {"failed": 2, "unchanged": 12}


def test_a_vector_too_large_for_the_storage_is_a_failure(folder: Path, tmp_path: Path) -> None:
    class Large(GridMean):
        def encode(self, batch: np.ndarray) -> np.ndarray:
            return super().encode(batch) * 70_000

    with ImageIndex.create(tmp_path / "half.imgindex", recipe=GRID_RECIPE, store="fp16") as index:
        index.encoder = Large()
        draw(folder / "a/white.png", (255, 255, 255))
        report = index.add([folder])
        assert ("white.png", "embed") in {(Path(failure.path).name, failure.stage) for failure in report.failures}
        assert np.isfinite(index.vectors()).all()


# dying and stopping


class Failing(GridMean):
    """Raises in its third batch."""

    def encode(self, batch: np.ndarray) -> np.ndarray:
        if self.embedded >= 2 * self.batch_size:
            raise RuntimeError("out of memory")
        return super().encode(batch)


def test_when_the_network_fails_what_was_done_is_kept_and_the_next_add_goes_on(
    index: ImageIndex, folder: Path, encoder: GridMean
) -> None:
    index.encoder = Failing(batch_size=4)
    with pytest.raises(RuntimeError, match="out of memory"):
        index.add([folder])
    assert len(index) == 8
    assert index.verify(full=True).ok
    index.encoder = encoder
    assert counts(index.add([folder])) == {"added": 4, "unchanged": 8}
    assert encoder.embedded == 4


def test_stopping_ends_after_the_batches_in_flight_and_the_next_add_embeds_only_the_rest(
    index: ImageIndex, folder: Path, encoder: GridMean
) -> None:
    (folder / "b/7.png").rename(folder / "spare.png")
    index.add([folder / "spare.png"])
    (folder / "spare.png").unlink()
    report = index.add([folder], stop=lambda: encoder.embedded > 4)
    assert report.interrupted
    # One batch is being recorded, one is on its way through the network.
    assert (report.added, report.removed, report.found) == (8, 0, 11)
    assert index.verify(full=True).ok
    report = index.add([folder])
    assert not report.interrupted
    assert counts(report) == {"added": 3, "unchanged": 8, "removed": 1}
    assert encoder.embedded == 12


def test_stopping_before_anything_is_done_changes_nothing(index: ImageIndex, folder: Path) -> None:
    report = index.add([folder], stop=lambda: True)
    assert report.interrupted
    assert len(index) == 0
    assert counts(index.add([folder])) == {"added": 12}


def test_stopping_in_the_last_batch_does_not_interrupt_the_run(
    index: ImageIndex, folder: Path, encoder: GridMean
) -> None:
    assert not index.add([folder], stop=lambda: encoder.embedded >= 12).interrupted


KILLED = """
import os, signal, sys
from grid_mean import GridMean
from imgindex import ImageIndex

class Killing(GridMean):
    def encode(self, batch):
        if self.embedded >= 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(batch)

with ImageIndex.open(sys.argv[1]) as index:
    index.encoder = Killing(batch_size=4)
    index.add([sys.argv[2]])
"""


def test_a_killed_add_loses_the_batches_in_flight_at_most(index: ImageIndex, folder: Path, encoder: GridMean) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", KILLED, index.path, str(folder)]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    # It dies in the third batch, perhaps before the second has been recorded.
    kept = len(index)
    assert kept in {4, 8}
    assert index.verify(full=True).ok
    assert counts(index.add([folder])) == {"added": 12 - kept, "unchanged": kept}
    assert encoder.embedded == 12 - kept
    assert index.verify(full=True).ok


# what is looked at


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


def test_progress_is_reported_up_to_the_end(index: ImageIndex, folder: Path) -> None:
    events = []
    spoil(folder / "a/3.png")
    index.add([folder], on_progress=events.append)
    embedding = [(progress.done, progress.total) for progress in events if progress.stage == "embed"]
    assert embedding == sorted(embedding)
    assert embedding[-1] == (12, 12)
    assert len(embedding) >= 3


def test_the_pictures_in_flight_are_few_however_many_there_are(
    index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(800):
        draw(tmp_path / "many" / f"{number}.png", (number % 256, number // 256, 7), (2, 2))
    encoder = GridMean(batch_size=8)
    opened: list[str] = []
    in_flight: list[int] = []

    def read(path: str) -> Content:
        opened.append(path)
        in_flight.append(len(opened) - encoder.embedded)
        return read_content(path)

    monkeypatch.setattr(imgindex.ingest.pipeline, "read_content", read)
    monkeypatch.setattr(imgindex.ingest.pipeline, "LOADING_LOOK_AHEAD", 200)
    index.encoder = encoder
    index.add([tmp_path / "many"])
    assert len(opened) == 800
    workers = imgindex.ingest.pipeline.worker_count(None)
    assert max(in_flight) <= 200 + 2 * workers + 4 * encoder.batch_size < 300
