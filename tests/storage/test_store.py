"""The commit protocol: a run may die anywhere; nothing committed is lost, and nothing uncommitted is seen."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgindex.errors import FormatTooNew, IndexDamaged, IndexExists, IndexNotFound, PathNotFound
from imgindex.storage import durable
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.ledger import Ledger
from imgindex.storage.records import NewImage
from imgindex.storage.segments import HEADER_SIZE, Segments
from imgindex.storage.store import Store, exists
from imgindex.storage.verify import check
from imgindex.storage.writer import Writer
from imgindex.types import Failure, FoundFile

SETTINGS = {"recipe": "{}", "recipe_digest": "ab" * 32, "dimension": "3", "store": "float32"}


class Died(Exception):
    """What a run dies of here."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with contextlib.closing(Store.create(str(tmp_path / "it.imgindex"), SETTINGS)) as opened:
        yield opened


def image(store: Store, name: str, number: int = 0) -> NewImage:
    file = FoundFile(os.path.join(os.path.dirname(store.path), name), 100 + number, 10**18 + number)
    return NewImage(file, bytes([number]) * 32, 32, 32, "PNG")


def vector(number: int) -> np.ndarray:
    return np.array([number, number / 3, -number], dtype=np.float32)


def put(writer: Writer, store: Store, *numbers: int) -> None:
    for number in numbers:
        writer.put(image(store, f"{number}.png", number), vector(number))


def commit(store: Store, *numbers: int) -> None:
    with store.writing() as writer:
        put(writer, store, *numbers)
        writer.commit()


def commit_with_a_failure(store: Store, *numbers: int) -> None:
    with store.writing() as writer:
        put(writer, store, *numbers)
        writer.fail(Failure("/broken.png", "decode", "broken"))
        writer.commit()


def present(store: Store) -> dict[str, list[float]]:
    """File name → vector of the images that a new reader sees."""
    with contextlib.closing(Store(store.path)) as reader:
        assert check(reader.path, full=True).ok
        images = list(reader.catalogue.images())
        vectors = reader.vectors([image.id for image in images])
        return {os.path.basename(i.path): v.tolist() for i, v in zip(images, vectors, strict=True)}


def expected(*numbers: int) -> dict[str, list[float]]:
    return {f"{number}.png": vector(number).tolist() for number in numbers}


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code that may import this file in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def segment(store: Store, number: int = 1) -> Path:
    return Path(store.segments.path(number))


def test_what_is_committed_is_seen_by_the_next_reader(store: Store) -> None:
    commit(store, 1, 2)
    commit(store, 3)
    assert present(store) == expected(1, 2, 3)


def test_what_was_put_but_not_committed_is_never_seen(store: Store) -> None:
    with store.writing() as writer:
        put(writer, store, 1)
    assert present(store) == {}


DEATHS = ["before the append", "half-way in the append", "after the append", "after one image", "before the end"]


def die(patch: pytest.MonkeyPatch, point: str) -> None:
    append, put = durable.append, Catalogue.put
    calls = []

    def dying_append(path: str, offset: int, data: bytes) -> None:
        if point == "half-way in the append":
            append(path, offset, data[: len(data) - 7])
        if point == "after the append":
            append(path, offset, data)
        raise Died

    def dying_put(self: Catalogue, *arguments: Any) -> None:
        if calls:
            raise Died
        calls.append(1)
        put(self, *arguments)

    def dying_fail(self: Ledger, failure: Failure) -> None:
        raise Died

    if "append" in point:
        patch.setattr(durable, "append", dying_append)
    elif point == "after one image":
        patch.setattr(Catalogue, "put", dying_put)
    else:
        patch.setattr(Ledger, "fail", dying_fail)


@pytest.mark.parametrize("point", DEATHS)
@pytest.mark.parametrize("first", [(), (1, 2)], ids=["in a new segment", "in an old segment"])
def test_a_commit_that_dies_leaves_what_was_there_before(store: Store, point: str, first: tuple[int, ...]) -> None:
    commit(store, *first)
    with pytest.MonkeyPatch.context() as patch:
        die(patch, point)
        with pytest.raises(Died):
            commit_with_a_failure(store, 3, 4)
    assert present(store) == expected(*first)
    commit(store, 6)
    assert present(store) == expected(*first, 6)
    assert segment(store).stat().st_size == HEADER_SIZE + (len(first) + 1) * 12


KILLED = """
import os, signal, sys
from test_store import *

def now(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

name = {"before the transaction": "set_rows", "in the transaction": "fail", "after the transaction": "checkpoint"}
setattr(Ledger if name[sys.argv[2]] == "fail" else Catalogue, name[sys.argv[2]], now)
commit_with_a_failure(Store(sys.argv[1]), 3, 4)
"""


@pytest.mark.parametrize("point", ["before the transaction", "in the transaction", "after the transaction"])
def test_a_process_killed_in_a_commit_loses_that_commit_at_most(store: Store, point: str) -> None:
    commit(store, 1, 2)
    killed = python(KILLED, store.path, point)
    assert killed.returncode == -9, killed.stderr
    assert segment(store).stat().st_size == HEADER_SIZE + 4 * 12
    survivors = (1, 2, 3, 4) if point == "after the transaction" else (1, 2)
    assert present(store) == expected(*survivors)
    commit(store, 6)
    assert present(store) == expected(*survivors, 6)


def test_uncommitted_rows_are_cut_off_by_the_next_writer(store: Store) -> None:
    commit(store, 1)
    with open(segment(store), "ab") as file:
        file.write(b"torn")
    assert present(store) == expected(1)
    with store.writing():
        pass
    assert segment(store).stat().st_size == HEADER_SIZE + 12


def test_unknown_files_among_the_segments_are_removed_by_the_next_writer(store: Store) -> None:
    commit(store, 1)
    for name in ("000002.vec", "notes.txt"):
        (segment(store).parent / name).write_bytes(b"?")
    with store.writing():
        pass
    assert os.listdir(segment(store).parent) == ["000001.vec"]


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


def test_a_full_segment_is_sealed_and_the_next_one_begun(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.segments, "capacity", 3)
    commit(store, 1, 2)
    commit(store, 3, 4, 5, 6, 7, 8)
    sealed = segment(store).read_bytes()
    commit(store, 9)
    assert store.catalogue.segments() == {1: 3, 2: 3, 3: 3}
    assert segment(store).read_bytes() == sealed
    assert present(store) == expected(*range(1, 10))
    assert [block.ids.tolist() for block in store.blocks()] == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    with store.writing():
        pass
    assert present(store) == expected(*range(1, 10))


def test_a_commit_over_two_segments_that_dies_leaves_neither_half(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.segments, "capacity", 3)
    commit(store, 1, 2)
    with pytest.MonkeyPatch.context() as patch:
        die(patch, "before the end")
        with pytest.raises(Died):
            commit_with_a_failure(store, 3, 4)
    assert present(store) == expected(1, 2)
    commit(store, 6, 7)
    assert present(store) == expected(1, 2, 6, 7)


def test_float16_halves_the_rows_and_keeps_three_digits(tmp_path: Path) -> None:
    with contextlib.closing(Store.create(str(tmp_path / "i"), {**SETTINGS, "store": "float16"})) as store:
        commit(store, 1, 2)
        assert segment(store).stat().st_size == HEADER_SIZE + 2 * 6
        read = store.vectors([1, 2])
        assert read.dtype == np.float32
        np.testing.assert_allclose(read, [vector(1), vector(2)], rtol=1e-3)
        assert store.blocks()[0].vectors.dtype == np.float16
        assert check(store.path, full=True).ok


def test_the_old_row_of_a_changed_image_belongs_to_no_image(store: Store) -> None:
    commit(store, 1, 2)
    with store.writing() as writer:
        writer.put(image(store, "1.png", 7), vector(7))
        writer.commit()
    assert [block.ids.tolist() for block in store.blocks()] == [[-1, 2, 1]]
    assert store.vectors([1])[0].tolist() == vector(7).tolist()


def test_removal_is_by_path_and_all_or_nothing(store: Store, tmp_path: Path) -> None:
    with store.writing() as writer:
        writer.put(image(store, "a/1.png", 1), vector(1))
        writer.put(image(store, "ab/2.png", 2), vector(2))
        writer.fail(Failure(str(tmp_path / "a/3.png"), "decode", "broken"))
        writer.commit()
        with pytest.raises(PathNotFound, match="nothing at"):
            writer.remove([str(tmp_path / "a"), str(tmp_path / "nowhere")])
        assert writer.catalogue.count() == {"images": 2, "missing": 0, "failures": 1}
        assert [image.id for image in writer.remove([str(tmp_path / "a")])] == [1]
        assert writer.catalogue.count() == {"images": 1, "missing": 0, "failures": 0}


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


def test_the_log_does_not_grow_with_the_number_of_commits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgindex.storage.writer.LOG_LIMIT", 100_000)
    sizes = []
    with store.writing() as writer:
        for number in range(60):
            put(writer, store, number)
            writer.commit()
            sizes.append(os.path.getsize(store.catalogue.path + "-wal"))
    assert max(sizes) < 200_000
    assert present(store) == expected(*range(60))


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
    with contextlib.closing(sqlite3.connect(store.catalogue.path)) as connection:
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
import mmap, os, sys
from test_store import *

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
