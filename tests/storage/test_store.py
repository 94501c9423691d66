"""A store is created once, refused where it is damaged or newer, read during commits, and moved with its folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from store_commits import (
    SETTINGS,
    Died,
    commit,
    expected,
    image,
    present,
    put,
    python,
    segment,
    vector,
)

from imgindex.errors import FormatTooNew, IndexDamaged, IndexExists, IndexNotFound
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.segments import HEADER_SIZE, Segments
from imgindex.storage.store import Store, exists
from imgindex.storage.verify import check
from imgindex.types import Failure


@pytest.mark.parametrize("how", ["short", "missing"])
def test_a_segment_that_lost_committed_rows_is_refused_and_nothing_is_changed(store: Store, how: str) -> None:
    commit(store, 1, 2)
    if how == "short":
        os.truncate(segment(store), HEADER_SIZE + 12 + 5)
    else:
        segment(store).unlink()
    with pytest.raises(IndexDamaged, match=r"000001\.vec"), store.writing():
        pytest.fail("a writer was lent")
    with pytest.raises(IndexDamaged, match=r"000001\.vec"):
        store.blocks()
    with pytest.raises(IndexDamaged, match=r"000001\.vec"):
        store.vectors([1])
    assert [image.id for image in store.catalogue.images()] == [1, 2]


def test_float16_halves_the_rows_and_keeps_three_digits(tmp_path: Path) -> None:
    with contextlib.closing(Store.create(str(tmp_path / "i"), {**SETTINGS, "store": "float16"})) as store:
        commit(store, 1, 2)
        assert segment(store).stat().st_size == HEADER_SIZE + 2 * 6
        read = store.vectors([1, 2])
        assert read.dtype == np.float32
        np.testing.assert_allclose(read, [vector(1), vector(2)], rtol=1e-3)
        assert store.blocks()[0].vectors.dtype == np.float16
        assert check(store.path, full=True).ok


def test_a_reader_s_snapshot_stays_the_same_during_a_commit(store: Store) -> None:
    commit(store, 1, 2)
    with contextlib.closing(Store(store.path)) as reader:
        with reader.catalogue.snapshot():
            before = list(reader.catalogue.images())
            with store.writing() as writer:
                put(writer, store, 3)
                writer.commit()
                writer.remove([os.path.join(os.path.dirname(store.path), "1.png")])
            assert list(reader.catalogue.images()) == before
            assert reader.vectors([1, 2]).tolist() == [vector(1).tolist(), vector(2).tolist()]
            assert [block.ids.tolist() for block in reader.blocks()] == [[1, 2]]
        assert [image.id for image in reader.catalogue.images()] == [2, 3]


def test_what_is_made_once_is_made_again_after_a_commit_only(store: Store) -> None:
    made = []

    def count(of: Store) -> int:
        made.append(of)
        return len(of.location_table())

    commit(store, 1, 2)
    assert [store.once(count) for _ in range(3)] == [2, 2, 2]
    with store.reading():
        assert store.once(count) == 2
        commit(store, 3)
        assert store.once(count) == 2  # the state that is being read
    assert [store.once(count) for _ in range(2)] == [3, 3]
    assert len(made) == 2
    with contextlib.closing(Store(store.path)) as other:
        assert other.once(count) == 3
    assert made[-1] is other


def test_the_rows_of_a_few_images_are_read_without_those_of_the_others(store: Store) -> None:
    commit(store, 1, 2, 3, 4)
    statements: list[str] = []
    store.catalogue.connection.set_trace_callback(statements.append)
    (block,) = store.blocks(np.array([4, 2, 99]))
    assert block.ids.tolist() == [2, 4]
    block.check(np.arange(2))
    np.testing.assert_array_equal(block.vectors, store.vectors([2, 4]))
    assert all("id in (" in statement for statement in statements if "crc32" in statement)
    assert store.blocks(np.array([99])) == []
    with open(segment(store), "r+b") as file:  # the last row, of image 4
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    store.blocks(np.array([1, 3]))[0].check(np.arange(2))
    with pytest.raises(IndexDamaged, match="the vector of image 4 is damaged"):
        store.blocks(np.array([1, 4]))[0].check(np.arange(2))


def test_an_index_moves_with_its_folder(tmp_path: Path) -> None:
    with contextlib.closing(Store.create(str(tmp_path / "old/it.imgindex"), SETTINGS)) as store:
        commit(store, 1)
    shutil.move(tmp_path / "old", tmp_path / "new place")
    with contextlib.closing(Store(str(tmp_path / "new place/it.imgindex"))) as moved:
        assert [image.path for image in moved.catalogue.images()] == [str(tmp_path / "new place/1.png")]
        assert moved.vectors([1])[0].tolist() == vector(1).tolist()
        commit(moved, 2)
        assert present(moved) == expected(1, 2)


NAMES = [
    "new\nline.png",
    'it\'s "quoted".png',
    "100%_?;--.png",
    "\udcff\udc80.png",
    "é.png",
    "e\u0301.png",
    " .png",
    "片.png",
]


def test_any_file_name_that_the_system_allows_comes_back_as_it_was(store: Store, tmp_path: Path) -> None:
    with store.writing() as writer:
        for number, name in enumerate(NAMES):
            writer.put(image(store, name, number), vector(number))
            writer.fail(Failure(str(tmp_path / f"broken {name}"), "decode", "broken"))
        writer.commit()
    with contextlib.closing(Store(store.path)) as reader:
        assert [os.path.basename(image.path) for image in reader.catalogue.images()] == NAMES
        paths = [str(tmp_path / name) for name in NAMES]
        assert set(reader.catalogue.known(paths)) == set(paths)
        assert {f.path for f in reader.catalogue.ledger.failures()} == {
            str(tmp_path / f"broken {name}") for name in NAMES
        }


# creating and opening


def test_there_is_no_index_where_none_was_created(tmp_path: Path) -> None:
    assert not exists(str(tmp_path))
    with pytest.raises(IndexNotFound):
        Store(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_an_index_is_not_created_twice(store: Store) -> None:
    commit(store, 1)
    with pytest.raises(IndexExists, match="already"):
        Store.create(store.path, SETTINGS)
    assert present(store) == expected(1)


def test_no_index_is_created_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(IndexExists, match=r"holiday\.jpg"):
        Store.create(str(tmp_path), SETTINGS)
    assert os.listdir(tmp_path) == ["holiday.jpg"]


@pytest.mark.parametrize("point", ["set_setting", "_check_version", "close"])
def test_an_index_whose_creation_died_can_be_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    close = Catalogue.close

    def dying(catalogue: Catalogue, *arguments: object) -> None:
        if point == "close":
            close(catalogue)  # as the system does for a process that has died
        raise Died

    path = str(tmp_path / "it.imgindex")
    with monkeypatch.context() as patch:
        patch.setattr(Catalogue, point, dying)
        with pytest.raises(Died):
            Store.create(path, SETTINGS)
    assert not exists(path)
    with contextlib.closing(Store.create(path, SETTINGS)) as store:
        commit(store, 1)
        assert present(store) == expected(1)
        assert sorted(os.listdir(path)) == [
            "catalogue.db",
            "catalogue.db-shm",
            "catalogue.db-wal",
            "catalogue.db.crc32",
            "lock",
            "segments",
        ]


def test_a_catalogue_of_a_newer_version_is_refused_as_such(store: Store) -> None:
    store.close()
    with contextlib.closing(sqlite3.connect(store.file("catalogue.db"))) as connection:
        connection.execute("pragma user_version = 99")
    with pytest.raises(FormatTooNew, match="format 99"):
        Store(store.path)


@pytest.mark.parametrize("content", [b"", b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_not_a_catalogue_is_damage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "catalogue.db").write_bytes(content)
    with pytest.raises(IndexDamaged, match=r"catalogue\.db"):
        Store(str(tmp_path))
    assert (tmp_path / "catalogue.db").read_bytes() == content


READ = """
# Modules that are imported late come first: the interpreter may be in a folder of root.
import mmap, os, sys, uuid
import msgspec
from imgindex.storage.store import Store
from imgindex.storage.verify import check

if os.getuid() == 0:  # whom no mode stops
    os.setgid(65534)
    os.setuid(65534)
assert not os.access(sys.argv[1], os.W_OK)
store = Store(sys.argv[1])
print(store.vectors([1]).tolist(), check(store.path, full=True).ok)
"""


def test_an_index_in_a_read_only_folder_can_be_read(store: Store, tmp_path: Path) -> None:
    commit(store, 1)
    store.close()
    for folder in tmp_path.parents:
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(0o755)
    tmp_path.chmod(0o755)
    Path(store.path).chmod(0o555)
    try:
        done = python(READ, store.path)
    finally:
        Path(store.path).chmod(0o755)
    assert done.stdout == f"{[vector(1).tolist()]} True\n", done.stderr


def test_sizes_on_disk_are_returned(store: Store) -> None:
    commit(store, 1, 2)
    sizes = store.bytes_on_disk()
    assert sizes["segments"] == HEADER_SIZE + 2 * 12
    assert sizes["catalogue"] >= os.path.getsize(store.catalogue.path) > 0
    assert sizes["derived"] == 0


def test_a_segment_holds_about_a_gigabyte() -> None:
    segments = Segments("", dimension=4096, dtype="float32", digest="ab" * 32)
    assert 0.99 * 2**30 < HEADER_SIZE + segments.capacity * segments.row_size <= 2**30
