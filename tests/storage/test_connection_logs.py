"""SQLite moves its log into the catalogue only when the store tells it to: the catalogue's checksum relies on that."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from grid_mean import GRID_RECIPE, GridMean
from pictures import draw

from imgindex import ImageIndex
from imgindex.storage import checksum, connection, posix_locks
from imgindex.storage.store import Store

CATALOGUE = "catalogue.db"


class Died(Exception):
    """What a run dies of here."""


def child(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Run code that may import the tests' encoder in a process of its own; it prints lines, and waits for stdin."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", "import os, sys\n" + code, *map(os.fspath, arguments)]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def output(code: str, *arguments: str | Path) -> str:
    """What the code prints, run to its end."""
    with child(code, *arguments) as process:
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
    return out.strip()


@pytest.fixture
def path(index: ImageIndex, folder: Path) -> Path:
    """An index of twelve pictures that is not open."""
    index.add([folder])
    index.close()
    return Path(index.path)


def write(store: Store, *, then_die: bool = True) -> None:
    with store.writing() as writer:
        with writer.catalogue.atomic():
            writer.catalogue.set_setting("word", "new")
        if then_die:
            raise Died


def setting(path: Path) -> str | None:
    with closing(Store(os.fspath(path))) as store:
        return store.catalogue.settings().get("word")


def check_sound(path: Path) -> None:
    checksum.check(os.fspath(path / CATALOGUE))
    assert checksum.read(os.fspath(path / CATALOGUE)) is not None
    with ImageIndex.open(path) as index:
        assert index.verify(full=True).ok
        assert len(index.vectors()) == 12


@contextmanager
def read_only_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside the block, an index is opened as on a disk that cannot be written to."""

    def immutable(address: str, path: str) -> connection.Connection:
        opened = connection._open(address + "?immutable=1", path)
        opened.immutable = True
        return opened

    with monkeypatch.context() as patch:
        patch.setattr(connection, "_reader", immutable)
        yield


def test_a_writer_that_dies_leaves_its_log_and_the_catalogue_as_it_was(path: Path) -> None:
    before = (path / CATALOGUE).read_bytes()
    with closing(Store(os.fspath(path))) as store, pytest.raises(Died):
        write(store)
    assert (path / CATALOGUE).read_bytes() == before
    assert (path / f"{CATALOGUE}-wal").stat().st_size > 0
    assert setting(path) == "new"
    assert (path / CATALOGUE).read_bytes() == before
    check_sound(path)


def test_a_writer_that_dies_leaves_its_log_also_if_its_reader_was_opened_on_a_read_only_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (path / CATALOGUE).read_bytes()
    with read_only_disk(monkeypatch):
        store = Store(os.fspath(path))
    with closing(store):
        with pytest.raises(Died):
            write(store)
        assert (path / CATALOGUE).read_bytes() == before
        assert store.catalogue.settings()["word"] == "new"
        check_sound(path)
        write(store, then_die=False)
    check_sound(path)


def test_readers_of_another_process_that_close_last_leave_the_log(path: Path) -> None:
    """They hold an old state, so that the log cannot be moved as a whole, and end after all other processes."""
    read = """
from imgindex import ImageIndex
with ImageIndex.open(sys.argv[1]) as index, index._store.reading():
    print(len(index), flush=True)
    sys.stdin.read()
"""
    with child(read, path) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "12\n"
        with closing(Store(os.fspath(path))) as store:
            write(store, then_die=False)
        checked = (path / CATALOGUE).read_bytes()
        assert (path / f"{CATALOGUE}-wal").stat().st_size > 0
        reader.communicate()
    assert (path / CATALOGUE).read_bytes() == checked
    assert setting(path) == "new"
    check_sound(path)


def test_the_log_of_a_killed_writer_stays_until_the_next_write(path: Path) -> None:
    before = (path / CATALOGUE).read_bytes()
    killed = """
import signal
from imgindex.storage.store import Store
store = Store(sys.argv[1])
with store.writing() as writer:
    with writer.catalogue.atomic():
        writer.catalogue.set_setting("word", "new")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    with child(killed, path) as process:
        process.communicate()
        assert process.returncode == -9
    for _ in range(2):
        assert setting(path) == "new"
        assert (path / CATALOGUE).read_bytes() == before
    check_sound(path)
    with closing(Store(os.fspath(path))) as store:
        write(store, then_die=False)
    assert (path / f"{CATALOGUE}-wal").stat().st_size == 0
    assert (path / CATALOGUE).read_bytes() != before
    check_sound(path)


ADD = """
from grid_mean import GridMean
from imgindex import ImageIndex
with ImageIndex.open(sys.argv[1]) as index:
    index.encoder = GridMean()
    print(index.add([sys.argv[2]]).added)
"""
REPAIR = """
from imgindex import ImageIndex
ImageIndex.repair(sys.argv[1])
"""


def verify(index: ImageIndex) -> None:
    assert index.verify(full=True).ok


def open_another(index: ImageIndex) -> None:
    ImageIndex.open(index.path).close()


def write_nothing(index: ImageIndex) -> None:
    with index._store.writing():
        pass


@pytest.mark.parametrize("what", [verify, open_another, write_nothing])
def test_a_reader_keeps_its_log_whatever_it_does(path: Path, folder: Path, what: Callable[[ImageIndex], None]) -> None:
    """To close a file that SQLite has open takes SQLite's locks away; the next to close would take the log along."""
    with ImageIndex.open(path) as index:
        assert len(index.paths()) == 12
        what(index)
        output(REPAIR, path)
        for number in range(100, 250):
            draw(folder / f"{number}.png", number)
        assert output(ADD, path, folder) == "150"
        assert len(index.paths()) == len(list(index.images())) == 162
        assert len(index.vectors()) == 162


def test_a_process_keeps_no_more_descriptors_than_it_needs(path: Path) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("descriptors are counted in /proc")
    before = count()
    with ImageIndex.open(path) as index:
        verify(index)
        once = count()
        for _ in range(5):
            verify(index)
            open_another(index)
        assert count() == once
    assert count() == before
    assert not posix_locks._waiting


def test_an_index_that_was_repaired_meanwhile_is_the_one_that_is_written(path: Path, folder: Path) -> None:
    """Repair replaces a damaged catalogue, which a process that has it open does not see."""
    with ImageIndex.open(path) as index:
        index.encoder = GridMean()
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


def test_a_log_that_does_not_fit_the_disk_makes_no_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite moves the log as it closes, and does not tell when it cannot: the file would be a catalogue of nothing."""
    from imgindex.storage import durable

    def full(path: str, opened: sqlite3.Connection, statement: str) -> None:
        if "checkpoint" in statement:
            raise sqlite3.OperationalError("database or disk is full")
        opened.execute(statement)

    with monkeypatch.context() as patch:
        patch.setattr(durable.disk, "execute", full)
        with pytest.raises(sqlite3.OperationalError, match="disk is full"):
            ImageIndex.create(tmp_path / "it.imgindex", recipe=GRID_RECIPE)
    assert not (tmp_path / "it.imgindex" / CATALOGUE).exists()
    ImageIndex.create(tmp_path / "it.imgindex", recipe=GRID_RECIPE).close()


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
