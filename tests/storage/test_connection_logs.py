"""SQLite moves its log into the catalogue only when the store tells it to: the catalogue's checksum relies on that."""

from __future__ import annotations

import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from grid_mean import GridMean
from index_processes import CATALOGUE, Died, check_sound, child

from imgindex import ImageIndex
from imgindex.storage import connection
from imgindex.storage.store import Store


def write(store: Store, *, then_die: bool = True) -> None:
    with store.writing() as writer:
        with writer.catalogue.atomic():
            writer.catalogue.set_setting("word", "new")
        if then_die:
            raise Died


def setting(path: Path) -> str | None:
    with closing(Store(os.fspath(path))) as store:
        return store.catalogue.settings().get("word")


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
            ImageIndex.create(tmp_path / "it.imgindex", encoder=GridMean())
    assert not (tmp_path / "it.imgindex" / CATALOGUE).exists()
    ImageIndex.create(tmp_path / "it.imgindex", encoder=GridMean()).close()


def test_a_new_catalogue_that_cannot_change_to_its_log_is_an_error(tmp_path: Path) -> None:
    """SQLite reports the failed write only to those who read the answer to the end."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most[1]))
    try:
        with pytest.raises(sqlite3.OperationalError, match="disk"):
            connection.connect(str(tmp_path / CATALOGUE), write=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    connection.connect(str(tmp_path / CATALOGUE), write=True).close()


def test_a_database_that_can_have_no_log_is_an_error(tmp_path: Path) -> None:
    (tmp_path / CATALOGUE).touch()
    with pytest.raises(sqlite3.OperationalError, match="write-ahead log cannot be used there"):
        connection._writer("file::memory:", str(tmp_path / CATALOGUE))
