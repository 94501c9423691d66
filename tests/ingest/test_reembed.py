"""Repair: lost vectors are computed again under their old ids, or their images are dropped by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from grid_mean import GridMean
from pictures import draw

from imgindex import ImageIndex
from imgindex.errors import IndexDamaged, IndexLocked, IndexNotFound, WeightsUnavailable
from imgindex.storage.lock import WriteLock
from imgindex.storage.segments import HEADER_SIZE

ROW = 12 * 4
# The name of the last writer, and what the last reader left of an empty log.
NOT_KEPT = {"lock", "catalogue.db-wal", "catalogue.db-shm"}


@pytest.fixture
def home(index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a closed index of twelve pictures in three segments."""
    monkeypatch.setattr(index._store.segments, "capacity", 5)
    index.add([folder])
    index.close()
    return Path(index.path)


def spoil(home: Path, segment: int, *rows: int) -> None:
    """Change a byte in each of these rows."""
    path = home / f"segments/{segment:06d}.vec"
    data = bytearray(path.read_bytes())
    for row in rows:
        data[HEADER_SIZE + row * ROW + 5] ^= 0x55
    path.write_bytes(data)


def answers(home: Path) -> tuple[list[int], list[str], np.ndarray]:
    """Ids, paths and vectors of an index that must be sound."""
    with ImageIndex.open(home) as index:
        assert index.verify(full=True).ok
        return index.ids().tolist(), index.paths(), index.vectors()


def same(now: tuple[list[int], list[str], np.ndarray], before: tuple[list[int], list[str], np.ndarray]) -> bool:
    return now[:2] == before[:2] and now[2].tobytes() == before[2].tobytes()


def test_a_sound_index_is_left_as_it_is(home: Path, encoder: GridMean) -> None:
    files = {path: path.read_bytes() for path in home.rglob("*") if path.is_file() and path.name not in NOT_KEPT}
    embedded = encoder.embedded
    report = ImageIndex.repair(home, encoder=encoder)
    assert (report.mended, report.embedded, report.dropped) == ((), 0, ())
    assert encoder.embedded == embedded
    assert all(path.read_bytes() == data for path, data in files.items())


def test_a_lost_vector_is_made_again_from_its_picture_and_no_other_is_touched(home: Path) -> None:
    before, encoder = answers(home), GridMean()
    spoil(home, 2, 0, 3)
    report = ImageIndex.repair(home, encoder=encoder)
    assert (report.embedded, report.dropped, encoder.embedded) == (2, (), 2)
    assert same(answers(home), before)


BREAK: dict[str, Callable[[Path], object]] = {
    "is missing": lambda path: path.unlink(),
    "is empty": lambda path: path.write_bytes(b""),
    "is cut short": lambda path: path.write_bytes(path.read_bytes()[: HEADER_SIZE + 2 * ROW + 9]),
    "has a wrong header": lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]),
    "is another's": lambda path: path.write_bytes(path.with_name("000001.vec").read_bytes()),
    "is a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "is a folder": lambda path: (path.unlink(), path.mkdir()),
    "leads nowhere": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}


@pytest.mark.parametrize("how", BREAK)
def test_a_segment_that_is_broken_is_named_and_its_images_come_back_under_their_ids(
    home: Path, folder: Path, how: str
) -> None:
    before = answers(home)
    BREAK[how](home / "segments/000002.vec")
    with ImageIndex.open(home) as index, pytest.raises(IndexDamaged, match="000002"):
        index.vectors()
    report = ImageIndex.repair(home, encoder=GridMean())
    assert any("000002.vec" in line for line in report.mended)
    assert report.dropped == ()
    saved = {"is cut short": 2, "has a wrong header": 5}.get(how, 0)
    assert report.embedded == 5 - saved
    assert same(answers(home), before)
    with ImageIndex.open(home, encoder=GridMean()) as index:
        assert index.add([folder]).unchanged == 12


def test_all_segments_lost_with_their_folder_are_made_again(home: Path) -> None:
    before = answers(home)
    for path in (home / "segments").iterdir():
        path.unlink()
    (home / "segments").rmdir()
    assert ImageIndex.repair(home, encoder=GridMean()).embedded == 12
    assert same(answers(home), before)


def test_an_image_that_cannot_be_made_again_is_dropped_by_name_and_by_reason(home: Path, folder: Path) -> None:
    spoil(home, 2, 0, 1, 3)  # a/5.png, b/10.png and b/6.png
    (folder / "a/5.png").unlink()
    draw(folder / "b/6.png", 66)
    report = ImageIndex.repair(home, encoder=GridMean())
    reasons = {Path(failure.path).name: failure.reason for failure in report.dropped}
    assert set(reasons) == {"5.png", "6.png"}
    assert "No such file" in reasons["5.png"]
    assert "not have the same bytes" in reasons["6.png"]
    ids, paths, _ = answers(home)
    assert not {"5.png", "6.png"} & {Path(path).name for path in paths}
    assert len(ids) == 10
    with ImageIndex.open(home, encoder=GridMean()) as index:
        index.add([folder])
        assert len(index) == 11


def test_a_copy_gives_its_vector_to_the_one_that_lost_it(home: Path, folder: Path) -> None:
    with ImageIndex.open(home) as index:
        (folder / "b/copy.png").write_bytes((folder / "a/0.png").read_bytes())
        index.add([folder])
    before, encoder = answers(home), GridMean()
    spoil(home, 1, 0)
    ImageIndex.repair(home, encoder=encoder)
    assert encoder.embedded == 0
    assert same(answers(home), before)


def test_the_lost_vector_of_a_missing_image_is_dropped_too_and_never_comes_back_wrong(home: Path, folder: Path) -> None:
    (folder / "a/2.png").unlink()
    with ImageIndex.open(home) as index:
        index.add([folder])
    spoil(home, 1, 2)
    report = ImageIndex.repair(home, encoder=GridMean())
    assert [Path(failure.path).name for failure in report.dropped] == ["2.png"]
    draw(folder / "a/2.png", 2)
    with ImageIndex.open(home, encoder=GridMean()) as index:
        assert index.add([folder]).added == 1
        assert index.verify(full=True).ok


def test_without_a_network_nothing_is_dropped(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = answers(home)
    spoil(home, 1, 0)

    def unavailable(*arguments: object) -> None:
        raise WeightsUnavailable("the weights are not here")

    with monkeypatch.context() as patch:
        patch.setattr("imgindex.encoders.registry.make_encoder", unavailable)
        with pytest.raises(WeightsUnavailable):
            ImageIndex.repair(home)
    ImageIndex.repair(home, encoder=GridMean())
    assert same(answers(home), before)


class Dies(GridMean):
    """Embeds one batch, and dies in the next."""

    def __init__(self) -> None:
        super().__init__(batch_size=1)

    def encode(self, batch: np.ndarray) -> np.ndarray:
        if self.embedded:
            raise KeyboardInterrupt
        return super().encode(batch)


def test_a_repair_that_dies_is_taken_up_by_the_next(home: Path) -> None:
    before = answers(home)
    spoil(home, 1, 0, 1, 2)
    with pytest.raises(KeyboardInterrupt):
        ImageIndex.repair(home, encoder=Dies())
    report = ImageIndex.repair(home, encoder=GridMean())
    assert (report.embedded, report.dropped) == (2, ())
    assert same(answers(home), before)


def test_a_repair_is_refused_while_another_process_writes(home: Path) -> None:
    with WriteLock(str(home / "lock")), pytest.raises(IndexLocked):
        ImageIndex.repair(home, encoder=GridMean())


@pytest.mark.parametrize("name", ["lock", "segments"])
def test_what_is_in_the_way_is_named_with_the_way_out_and_nothing_is_changed(home: Path, name: str) -> None:
    before = (home / "catalogue.db").read_bytes()
    (home / name).rename(home.with_name("away"))
    os.mkfifo(home / name)
    with pytest.raises(IndexDamaged, match=f"{name} is no") as caught:
        ImageIndex.repair(home, encoder=GridMean())
    assert "move it away" in caught.value.hint
    assert (home / "catalogue.db").read_bytes() == before
    (home / name).unlink()
    home.with_name("away").rename(home / name)
    assert ImageIndex.repair(home, encoder=GridMean()).mended == ()


def test_a_repair_without_an_index_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFound):
        ImageIndex.repair(tmp_path)
