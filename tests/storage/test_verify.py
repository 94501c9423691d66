"""Corrupted on purpose: what `verify` reports, and that it changes nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from pictures import draw

from imgindex import ImageIndex
from imgindex.errors import IndexDamaged
from imgindex.storage.segments import HEADER_SIZE
from imgindex.storage.verify import check

ROW = 12 * 4


@pytest.fixture
def home(index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an index of twelve pictures in three segments; the index itself stays open."""
    monkeypatch.setattr(index._store.segments, "capacity", 5)
    index.add([folder])
    return Path(index.path)


def change(path: Path, offset: int, *, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= bit
    path.write_bytes(data)


def problems(home: Path, *, full: bool) -> list[tuple[str, str]]:
    """Kind and subject of each problem; verify must leave every byte as it was."""
    before = files(home)
    report = check(str(home), full=full)
    assert files(home) == before
    assert report.ok is not bool(report.problems)
    assert all(problem.detail for problem in report.problems)
    return [(problem.kind, problem.subject) for problem in report.problems]


def files(home: Path) -> dict[str, bytes]:
    # The shared memory of SQLite's log is every reader's note-pad.
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file() and not path.name.endswith("-shm")
    }


@pytest.mark.parametrize("full", [False, True])
def test_a_sound_index_has_no_problems(index: ImageIndex, home: Path, full: bool) -> None:
    report = index.verify(full=full)
    assert report.ok
    assert (report.images, report.segments, report.vectors_read) == (12, 3, 12 if full else 0)
    assert problems(home, full=full) == []


def test_an_empty_index_has_no_problems(index: ImageIndex) -> None:
    assert index.verify(full=True).ok


def test_a_changed_byte_of_a_vector_is_found_by_a_full_check_and_blamed_on_one_image(home: Path) -> None:
    change(home / "segments/000002.vec", HEADER_SIZE + 2 * ROW + 7)
    assert problems(home, full=False) == []
    assert problems(home, full=True) == [("vector", "image 8")]


def test_the_vector_of_a_missing_image_is_checked_too(index: ImageIndex, home: Path, folder: Path) -> None:
    (folder / "b/11.png").unlink()
    index.add([folder])
    change(home / "segments/000002.vec", HEADER_SIZE + 2 * ROW)
    assert problems(home, full=True) == [("vector", "image 8")]


def test_a_row_that_belongs_to_no_image_any_more_is_sound(index: ImageIndex, home: Path, folder: Path) -> None:
    draw(folder / "b/11.png", 99)
    index.add([folder])
    change(home / "segments/000002.vec", HEADER_SIZE + 2 * ROW)
    assert problems(home, full=True) == []


@pytest.mark.parametrize("offset", [0, 8, 16, 28, 60, 64])
def test_a_changed_byte_of_a_header_is_found(home: Path, offset: int) -> None:
    change(home / "segments/000002.vec", offset)
    assert problems(home, full=False) == [("segment", "000002.vec")]


def test_a_segment_cut_short_is_found_with_the_images_that_it_lost(home: Path) -> None:
    path = home / "segments/000001.vec"
    path.write_bytes(path.read_bytes()[:-1])
    assert problems(home, full=False) == [("segment", "000001.vec")]
    assert ("vector", "image 5") in problems(home, full=True)


def test_a_missing_segment_is_found_with_the_images_that_it_lost(home: Path) -> None:
    (home / "segments/000002.vec").unlink()
    assert problems(home, full=False) == [("segment", "000002.vec")]
    lost = {subject for kind, subject in problems(home, full=True) if kind == "vector"}
    assert lost == {f"image {id}" for id in range(6, 11)}


def test_rows_of_a_run_that_died_before_its_commit_are_sound(home: Path) -> None:
    with open(home / "segments/000003.vec", "ab") as file:
        file.write(b"torn")
    (home / "segments/000004.vec").write_bytes(b"new")
    assert problems(home, full=True) == []


def test_an_image_whose_row_was_never_committed_is_found(index: ImageIndex, home: Path) -> None:
    with index._store.writing() as writer:
        writer.catalogue.connection.execute("pragma foreign_keys = off")
        writer.catalogue.connection.execute("update images set row = 99 where id = 3")
        writer.catalogue.connection.execute("update images set segment = 9 where id = 4")
    assert problems(home, full=False) == [("row", "image 3"), ("row", "image 4")]


def test_an_index_of_the_catalogue_that_lost_an_entry_is_found(home: Path) -> None:
    with closing(sqlite3.connect(home / "catalogue.db")) as connection, connection:
        connection.execute("pragma writable_schema = on")
        connection.execute("update sqlite_master set sql = sql || ' where id > 3' where name = 'images_by_content'")
    found = problems(home, full=False)
    assert found
    assert {kind for kind, _ in found} == {"catalogue"}


def test_a_page_of_the_catalogue_that_was_overwritten_is_found_and_never_a_wrong_answer(home: Path) -> None:
    """Page by page: it is either named, or it was a page that nothing is read from."""
    with ImageIndex.open(home) as index:
        paths, vectors = index.paths(), index.vectors()
        index._store.close()
    catalogue = home / "catalogue.db"
    sound = catalogue.read_bytes()
    assert not (home / "catalogue.db-wal").exists() or (home / "catalogue.db-wal").stat().st_size == 0
    found = 0
    for start in range(0, len(sound), 4096):
        catalogue.write_bytes(sound[:start] + b"\xa5" * 4096 + sound[start + 4096 :])
        try:
            index = ImageIndex.open(home)
        except IndexDamaged:
            found += 1
            continue
        with index:
            report = index.verify(full=True)
            if report.ok:
                assert index.paths() == paths
                np.testing.assert_array_equal(index.vectors(), vectors)
            found += not report.ok
    assert found > 5


def test_verify_and_compact_report_how_many_vectors_they_have_read(index: ImageIndex, folder: Path) -> None:
    index.add(folder)
    seen: list[tuple[str, int, int]] = []
    index.verify(full=True, on_progress=lambda progress: seen.append((progress.stage, progress.done, progress.total)))
    assert seen == [("check the catalogue", 0, 0), ("read vectors", 0, 12), ("read vectors", 12, 12)]
    index.remove(index.paths()[:3])
    seen.clear()
    index.compact(on_progress=lambda progress: seen.append((progress.stage, progress.done, progress.total)))
    assert seen == [("copy vectors", 0, 9), ("copy vectors", 9, 9)]
