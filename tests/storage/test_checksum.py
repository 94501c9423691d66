"""The checksums of the catalogue: every changed byte is noticed, and a writer at work disturbs no reader."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from grid_mean import GridMean, replace_encoder
from pictures import draw

from imgindex import ImageIndex
from imgindex.errors import IndexDamaged
from imgindex.storage import checksum, durable
from imgindex.storage.durable import Disk
from imgindex.storage.verify import check
from imgindex.types import Failure

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
    with ImageIndex.open(home, encoder=GridMean()) as index:
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
        replace_encoder(index, GridMean())
        index.add([tmp_path / "golden/pictures"])
    assert checksum.read(str(home / "catalogue.db")) == checksum.compute(str(home / "catalogue.db"))


def test_a_writer_that_dies_in_its_checkpoint_leaves_no_checksum_of_the_old_catalogue(
    index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add([folder])

    def die(*arguments: object) -> None:
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
    # A reader keeps the log from being moved.
    with (
        ImageIndex.create(tmp_path / "other.imgindex", encoder=GridMean()) as other,
        other._store.catalogue.snapshot(),
    ):
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


# A catalogue too large to be compared whole whenever it is opened.


@pytest.fixture(scope="module")
def large_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an index whose catalogue has more than twice the bytes that are compared whole."""
    base = tmp_path_factory.mktemp("large")
    draw(base / "pictures/0.png", 3)
    with ImageIndex.create(base / "it.imgindex", encoder=GridMean()) as index:
        index.add([base / "pictures"])
        with index._store.writing() as writer:
            for number in range(30_000):
                path = str(base / f"elsewhere/{number:06}.png")
                writer.fail(Failure(path, "decode", "a reason that fills the catalogue " * 9, size=1, mtime_ns=1))
            writer.commit()
    assert (base / "it.imgindex/catalogue.db").stat().st_size > 2 * checksum.SMALL
    return base


@pytest.fixture
def large(large_index: Path, tmp_path: Path) -> Path:
    shutil.copytree(large_index, tmp_path, dirs_exist_ok=True)
    return tmp_path


class CountingReads:
    """Counts the bytes that are read of files by os.pread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.total, self._pread = 0, os.pread
        monkeypatch.setattr(os, "pread", self.pread)

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        data = self._pread(descriptor, length, offset)
        self.total += len(data)
        return data


def test_to_open_a_large_catalogue_reads_a_small_part_and_to_add_an_image_the_blocks_that_change(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = large / "it.imgindex/catalogue.db"
    reads = CountingReads(monkeypatch)
    with ImageIndex.open(large / "it.imgindex") as index:
        opened = reads.total
        draw(large / "pictures/new.png", 77)
        replace_encoder(index, GridMean())
        index.add([large / "pictures"])
    assert opened < 2_000_000
    # Once for opening, once for writing, and each block that changes twice.
    assert reads.total < 5_000_000
    assert checksum.read(str(database)) == checksum.compute(str(database))


def test_verify_and_repair_notice_every_block_of_a_large_catalogue(large: Path) -> None:
    database = large / "it.imgindex/catalogue.db"
    sound = database.read_bytes()
    numbers = range(len(checksum.compute(str(database)).blocks))
    for number in numbers:
        position = min(number * checksum.BLOCK + number * 61 % checksum.BLOCK, len(sound) - 1)
        with database.open("r+b") as file:
            file.seek(position)
            file.write(bytes([sound[position] ^ 1]))
            file.flush()
            with pytest.raises(IndexDamaged, match="checksum"):
                checksum.check(str(database), whole=True)
            file.seek(position)
            file.write(sound[position : position + 1])
    checksum.check(str(database), whole=True)


def flip_unused_byte(database: Path, block: int) -> None:
    """Change a byte that neither SQLite nor a reader looks at: only the checksum of its block shows it."""
    with database.open("r+b") as file:
        file.seek(block * checksum.BLOCK + 200)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def test_opening_a_large_catalogue_again_and_again_finds_a_changed_byte_anywhere(large: Path) -> None:
    database = large / "it.imgindex/catalogue.db"
    flip_unused_byte(database, len(checksum.compute(str(database)).blocks) - 9)

    def open_again_and_again() -> None:
        for _ in range(1000):
            checksum.check(str(database))

    with pytest.raises(IndexDamaged, match="checksum"):
        open_again_and_again()


def test_a_writer_does_not_give_a_new_checksum_to_a_block_that_was_damaged(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new failure goes to one of the last pages, and the block of that page has a changed byte."""
    monkeypatch.setattr(checksum, "SAMPLES", 0)  # opening the index could find it by chance
    (large / "pictures/wrong.png").write_bytes(b"no picture")
    shutil.copytree(large, large / "trial")
    with ImageIndex.open(large / "trial/it.imgindex", encoder=GridMean()) as index:
        assert index.add([large / "trial/pictures"]).failed == 1
    home, database = large / "it.imgindex", large / "it.imgindex/catalogue.db"
    after = checksum.compute(str(large / "trial/it.imgindex/catalogue.db"))
    pairs = enumerate(zip(checksum.compute(str(database)).blocks, after.blocks, strict=False))
    changed = [number for number, (old, new) in pairs if old != new and number >= checksum.BEGINNING]
    flip_unused_byte(database, changed[0])
    stored = checksum.read(str(database))
    with ImageIndex.open(home, encoder=GridMean()) as index, pytest.raises(IndexDamaged, match="checksum"):
        index.add([large / "pictures"])
    assert checksum.read(str(database)) == stored
    assert not check(str(home)).ok


@pytest.mark.parametrize("count", [0, 15_000, 29_999])
def test_a_catalogue_that_shrinks_has_the_checksums_of_what_is_left(large: Path, count: int) -> None:
    with ImageIndex.open(large / "it.imgindex") as index:
        with index._store.writing() as writer, writer.catalogue.atomic():
            some = "delete from failures where path in (select path from failures limit ?)"
            writer.catalogue.connection.execute(some, (count,))
        index.compact()
    database = large / "it.imgindex/catalogue.db"
    assert checksum.read(str(database)) == checksum.compute(str(database))


def test_the_checksum_of_version_1_is_compared_and_replaced_by_the_next_writer(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "v4", tmp_path / "golden")
    home = tmp_path / "golden/golden.imgindex"
    database = home / "catalogue.db"
    stored = checksum.read(str(database))
    assert stored is not None
    assert stored.of_whole is not None
    sound = database.read_bytes()
    database.write_bytes(sound[:-5] + bytes([sound[-5] ^ 1]) + sound[-4:])
    with pytest.raises(IndexDamaged, match="checksum"):
        ImageIndex.open(home)
    database.write_bytes(sound)
    with ImageIndex.open(home) as index:
        draw(tmp_path / "golden/pictures/new.png", 5)
        replace_encoder(index, GridMean())
        index.add([tmp_path / "golden/pictures"])
    stored = checksum.read(str(database))
    assert stored == checksum.compute(str(database))
    assert stored.of_whole is None
