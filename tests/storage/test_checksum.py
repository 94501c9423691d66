"""The checksum of the catalogue: every changed byte is noticed, and a writer at work disturbs no reader."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from grid_mean import GRID_RECIPE, GridMean
from pictures import draw

from imgindex import ImageIndex
from imgindex.errors import IndexDamaged
from imgindex.storage import checksum, durable
from imgindex.storage.durable import Disk
from imgindex.storage.verify import check

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def home(index: ImageIndex, folder: Path) -> Path:
    """The folder of an index of twelve pictures that is not open."""
    index.add([folder])
    index.close()
    return Path(index.path)


def test_every_changed_byte_of_the_catalogue_is_noticed(home: Path) -> None:
    catalogue = home / "catalogue.db"
    sound = catalogue.read_bytes()
    for position in range(0, len(sound), 997):
        catalogue.write_bytes(sound[:position] + bytes([sound[position] ^ 0x40]) + sound[position + 1 :])
        with pytest.raises(IndexDamaged, match=r"catalogue\.db"):
            ImageIndex.open(home)
    catalogue.write_bytes(sound)
    ImageIndex.open(home).close()


@pytest.mark.parametrize("change", [lambda data: data + b"\0", lambda data: data[:-1], lambda data: data + data])
def test_a_catalogue_of_another_length_is_noticed(home: Path, change: object) -> None:
    catalogue = home / "catalogue.db"
    catalogue.write_bytes(change(catalogue.read_bytes()))  # type: ignore[operator]
    with pytest.raises(IndexDamaged, match="checksum"):
        ImageIndex.open(home)


def test_a_catalogue_edited_with_another_program_is_refused_until_a_repair_accepts_it(home: Path) -> None:
    with closing(sqlite3.connect(home / "catalogue.db")) as connection:
        connection.execute("pragma journal_mode = delete")
        connection.execute("update images set width = width + 1 where id = 3")
        connection.commit()
    with pytest.raises(IndexDamaged, match="checksum") as caught:
        ImageIndex.open(home)
    assert "imgindex repair" in caught.value.hint
    report = ImageIndex.repair(home, encoder=GridMean())
    assert any("checksum" in line for line in report.mended)
    with ImageIndex.open(home) as index:
        assert [image.width for image in index.images()] == [32] * 12
        assert index.verify(full=True).ok


def test_a_checkpoint_between_two_reads_of_the_checksum_is_not_damage(
    index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add([folder])
    database = os.path.join(index.path, "catalogue.db")
    read, looks = checksum.read, []

    def read_and_then_a_writer_comes(path: str) -> checksum.Checksum | None:
        found = read(path)
        looks.append(found)
        if len(looks) == 1:
            draw(folder / "new.png", 77)
            index.add([folder])
        return found

    monkeypatch.setattr(checksum, "read", read_and_then_a_writer_comes)
    checksum.check(database)
    assert looks[0] != read(database)


def test_without_a_checksum_an_index_opens_and_the_next_writer_records_one(home: Path, folder: Path) -> None:
    (home / "catalogue.db.crc32").unlink()
    with ImageIndex.open(home) as index:
        assert len(index) == 12
        assert index.verify(full=True).ok
        index.add([folder])
    assert checksum.read(str(home / "catalogue.db")) == checksum.compute(str(home / "catalogue.db"))


@pytest.mark.parametrize("content", [b"", b"garbage", b"imgindex catalogue 1 5 0 00000000\n", b"\xff" * 300])
def test_a_checksum_that_cannot_be_read_is_a_problem_and_the_index_opens(
    home: Path, folder: Path, content: bytes
) -> None:
    (home / "catalogue.db.crc32").write_bytes(content)
    with ImageIndex.open(home) as index:
        index.encoder = GridMean()
        assert [problem.subject for problem in index.verify().problems] == ["catalogue.db.crc32"]
        draw(folder / "new.png", 77)
        index.add([folder])
        assert index.verify(full=True).ok


def test_a_pipe_in_the_place_of_the_checksum_is_not_waited_for(home: Path) -> None:
    (home / "catalogue.db.crc32").unlink()
    os.mkfifo(home / "catalogue.db.crc32")
    with ImageIndex.open(home) as index:
        assert len(index.paths()) == 12
        assert not index.verify().ok
    ImageIndex.repair(home, encoder=GridMean())
    with ImageIndex.open(home) as index:
        assert index.verify(full=True).ok


def test_a_folder_in_the_place_of_the_checksum_is_named_with_the_way_out(home: Path) -> None:
    (home / "catalogue.db.crc32").unlink()
    (home / "catalogue.db.crc32").mkdir()
    with pytest.raises(IndexDamaged, match="is a folder") as caught:
        ImageIndex.open(home)
    assert "move it away" in caught.value.hint
    with pytest.raises(IndexDamaged, match="is a folder"):
        ImageIndex.repair(home)


def test_an_index_of_version_1_gets_a_checksum_with_its_first_write(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "v1", tmp_path / "golden")
    home = tmp_path / "golden/golden.imgindex"
    with ImageIndex.open(home) as index:
        assert not checksum.exists(str(home / "catalogue.db"))
        draw(tmp_path / "golden/pictures/new.png", 5)
        index.encoder = GridMean()
        index.add([tmp_path / "golden/pictures"])
    assert checksum.read(str(home / "catalogue.db")) == checksum.compute(str(home / "catalogue.db"))


def test_a_writer_that_dies_in_its_checkpoint_leaves_no_checksum_of_the_old_catalogue(
    index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add([folder])

    def die(path: str) -> None:
        raise KeyboardInterrupt

    draw(folder / "new.png", 77)
    with monkeypatch.context() as patch:
        patch.setattr(checksum, "write", die)
        with pytest.raises(KeyboardInterrupt):
            index.add([folder])
    assert not checksum.exists(os.path.join(index.path, "catalogue.db"))
    with ImageIndex.open(index.path) as again:
        assert len(again) == 13


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal"])
def test_something_else_with_the_name_of_a_log_is_named_with_the_way_out(home: Path, ending: str) -> None:
    log = home / f"catalogue.db{ending}"
    log.unlink(missing_ok=True)
    log.mkdir()
    with pytest.raises(IndexDamaged, match=f"{ending} is not a regular file") as caught:
        ImageIndex.open(home)
    assert "move it away" in caught.value.hint
    with pytest.raises(IndexDamaged, match="is not a regular file"):
        ImageIndex.repair(home)


def test_a_catalogue_behind_a_link_is_refused_because_its_log_would_be_missed(home: Path, tmp_path: Path) -> None:
    (home / "catalogue.db").rename(tmp_path / "behind.db")
    (home / "catalogue.db").symlink_to(tmp_path / "behind.db")
    with pytest.raises(IndexDamaged, match="is a link") as caught:
        ImageIndex.open(home)
    assert "put the file itself" in caught.value.hint


def test_a_rollback_journal_that_cannot_be_undone_is_named_and_undone_by_a_repair(home: Path) -> None:
    (home / "catalogue.db-journal").write_bytes(b"garbage" * 1000)
    with pytest.raises(IndexDamaged, match=r"catalogue\.db-journal") as caught:
        ImageIndex.open(home)
    assert "imgindex repair" in caught.value.hint
    ImageIndex.repair(home, encoder=GridMean())
    with ImageIndex.open(home) as index:
        assert len(index) == 12
        assert index.verify(full=True).ok


def test_a_catalogue_that_is_a_link_to_itself_is_missing(home: Path) -> None:
    (home / "catalogue.db").unlink()
    (home / "catalogue.db").symlink_to("catalogue.db")
    with pytest.raises(IndexDamaged, match="is missing") as caught:
        ImageIndex.open(home)
    assert "from a copy" in caught.value.hint


def test_a_log_of_another_catalogue_is_refused_and_removed_by_a_repair(
    index: ImageIndex, folder: Path, tmp_path: Path
) -> None:
    """SQLite would read the log as this catalogue's own: a whole log of another catalogue makes it that catalogue."""
    with ImageIndex.create(tmp_path / "other.imgindex", recipe=GRID_RECIPE) as other:
        other.encoder = GridMean()
        with other._store.catalogue.snapshot():  # a reader keeps the log from being moved
            assert other._store.catalogue.count()["images"] == 0
            other.add([folder / "a"])
            foreign = Path(other.path, "catalogue.db-wal").read_bytes()
    assert foreign
    index.add([folder / "b"])
    home, paths = Path(index.path), index.paths()
    index.close()
    (home / "catalogue.db-wal").write_bytes(foreign)
    with pytest.raises(IndexDamaged, match="does not belong to it"):
        ImageIndex.open(home)
    assert not check(str(home)).ok
    report = ImageIndex.repair(home, encoder=GridMean())
    assert "did not belong to this catalogue" in report.mended[0]
    with ImageIndex.open(home) as again:
        assert again.paths() == paths
        assert again.verify(full=True).ok


def test_a_log_that_a_killed_writer_left_is_read(index: ImageIndex, folder: Path) -> None:
    with index._store.catalogue.snapshot():
        assert index._store.catalogue.count()["images"] == 0
        index.add([folder])  # the reader holds the log back, as a death does
        assert Path(index.path, "catalogue.db-wal").stat().st_size > 0
        with ImageIndex.open(index.path) as reader:
            assert len(reader) == 12


class Watched(Disk):
    """Notes what is synced and renamed; fails a checkpoint, if it is to."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.steps: list[str] = []

    def sync(self, path: str, descriptor: int) -> None:
        super().sync(path, descriptor)
        self.steps.append(f"sync {os.path.basename(path)}")

    def rename(self, path: str, target: str) -> None:
        super().rename(path, target)
        self.steps.append(f"rename {os.path.basename(target)}")

    def execute(self, path: str, connection: sqlite3.Connection, statement: str) -> None:
        if self.fails and "checkpoint" in statement:
            raise sqlite3.OperationalError("disk I/O error")
        super().execute(path, connection, statement)


def test_a_checkpoint_that_failed_leaves_no_checksum_of_what_the_disk_may_not_have(
    index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "disk", Watched(fails=True))
    index.add([folder])
    catalogue = Path(index.path, "catalogue.db")
    assert checksum.log_size(str(catalogue)) > 0
    assert checksum.read(str(catalogue)) is None
    assert len(index) == 12
    monkeypatch.undo()
    index.add([folder])
    stored = checksum.read(str(catalogue))
    assert stored == checksum.compute(str(catalogue))
    assert stored.closed


def test_a_part_of_the_log_that_was_moved_is_synced_before_its_checksum_is_recorded(
    index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add([folder / "a"])
    watched = Watched()
    with ImageIndex.open(index.path) as reader, reader._store.reading():
        # The reader's state is in the catalogue: what is committed from now on stays in the log.
        index.add([folder / "b"])
        reader_sees = len(reader)
        monkeypatch.setattr(durable, "disk", watched)
        index.remove([folder / "a" / "0.png"])
    stored = checksum.read(str(Path(index.path, "catalogue.db")))
    assert reader_sees == 6
    assert stored is not None
    assert not stored.closed
    recorded = watched.steps.index("rename catalogue.db.crc32")
    assert "sync catalogue.db" in watched.steps[:recorded]
