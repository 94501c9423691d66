"""Which state each reader reads, and what they share of it. Threads are in tests/storage/test_store_concurrency.py."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from imgindex import ImageIndex
from imgindex.errors import IndexClosed
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.readers import IDLE, Reader, Readers, State
from imgindex.storage.store import CATALOGUE, Store


@pytest.fixture
def store(index: ImageIndex) -> Iterator[Store]:
    with closing(Store(index.path)) as opened:
        yield opened


@pytest.fixture
def readers(store: Store) -> Iterator[Readers]:
    path = store.file(CATALOGUE)
    made = Readers(path, lambda: Catalogue(path, store.paths))
    yield made
    made.close(store._opened_in)


def state(readers: Readers, reader: Reader) -> State:
    with reader.catalogue.snapshot():
        return readers.state(reader)


def commit(index: ImageIndex) -> None:
    with index._store.writing() as writer, writer.catalogue.atomic():
        writer.catalogue.set_setting("test", "a value")


def test_readers_share_a_state_until_a_commit(index: ImageIndex, readers: Readers) -> None:
    one, other = readers.lend(), readers.lend()
    assert one is not other
    before = state(readers, one)
    assert state(readers, other) is before
    commit(index)
    after = state(readers, other)
    assert after is not before
    assert state(readers, one) is after


def test_a_reader_in_its_snapshot_stays_in_its_state(index: ImageIndex, readers: Readers) -> None:
    one, other = readers.lend(), readers.lend()
    with one.catalogue.snapshot():
        before = readers.state(one)
        commit(index)
        assert state(readers, other) is not before
        assert readers.state(one) is before


def test_a_commit_of_another_program_is_another_state(index: ImageIndex, readers: Readers) -> None:
    reader = readers.lend()
    before = state(readers, reader)
    with closing(sqlite3.connect(f"{index.path}/{CATALOGUE}")) as other:
        other.execute("pragma wal_autocheckpoint = 0")
        other.execute("insert into settings values ('theirs', '1')")
        other.commit()
    assert state(readers, reader) is not before


def test_what_is_made_of_a_state_is_made_once() -> None:
    made, calls = State(), []
    assert [made.once("key", lambda: calls.append(1) or 7) for _ in range(3)] == [7, 7, 7]
    assert made.once("other", lambda: 8) == 8
    assert len(calls) == 1


def test_what_fails_is_tried_again() -> None:
    made = State()
    with pytest.raises(ZeroDivisionError):
        made.once("key", lambda: 1 // 0)
    assert made.once("key", lambda: 1) == 1


def test_few_readers_wait_for_the_next_thread(readers: Readers) -> None:
    lent = [readers.lend() for _ in range(IDLE + 3)]
    for reader in lent:
        readers.give_back(reader)
    again = [readers.lend() for _ in range(IDLE)]
    assert again == lent[:IDLE]
    with pytest.raises(sqlite3.ProgrammingError):
        sqlite3.Connection.execute(lent[-1].catalogue.connection, "select 1")


def test_a_reader_of_a_replaced_file_is_not_lent_again(index: ImageIndex, readers: Readers) -> None:
    reader = readers.lend()
    readers.give_back(reader)
    path = Path(index.path, CATALOGUE)
    path.rename(path.with_suffix(".old"))
    path.write_bytes(path.with_suffix(".old").read_bytes())
    assert not reader.is_of(str(path))
    assert readers.lend() is not reader


def test_after_the_end_no_reader_is_opened(readers: Readers, store: Store) -> None:
    readers.lend()
    readers.close(store._opened_in)
    with pytest.raises(IndexClosed):
        readers.lend()
