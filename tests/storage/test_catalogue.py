"""What the catalogue remembers of images."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from catalogue_images import image, record

from imgindex.errors import IndexClosed
from imgindex.storage.catalogue import PATHS_PER_QUERY, Catalogue
from imgindex.storage.paths import PathMap
from imgindex.types import Failure, FoundFile


def paths(catalogue: Catalogue) -> dict[int, str]:
    return catalogue.image_paths()


def test_an_image_is_recorded_with_all_that_is_known_of_it(catalogue: Catalogue) -> None:
    record(catalogue, image("/home/ann/a.png", 7, size=123, mtime_ns=2**60), 1, 5, 0xFFFFFFFF)
    (found,) = catalogue.images()
    assert (found.id, found.path, found.size, found.mtime_ns) == (1, "/home/ann/a.png", 123, 2**60)
    assert (found.sha256, found.width, found.height, found.format) == ("07" * 32, 640, 480, "PNG")
    (place,) = catalogue.locations([1])
    assert (place.segment, place.row, place.crc32) == (1, 5, 0xFFFFFFFF)


def test_a_changed_image_keeps_its_id(catalogue: Catalogue) -> None:
    record(catalogue, image("/a.png", 1), 1, 0, 0)
    record(catalogue, image("/b.png", 2), 1, 1, 0)
    record(catalogue, image("/a.png", 3), 1, 2, 0)
    assert {found.id: found.sha256[:2] for found in catalogue.images()} == {1: "03", 2: "02"}


def test_an_id_is_never_used_again(catalogue: Catalogue) -> None:
    record(catalogue, image("/a.png"), 1, 0, 0)
    record(catalogue, image("/b.png"), 1, 1, 0)
    catalogue.forget([2])
    record(catalogue, image("/b.png"), 1, 2, 0)
    assert paths(catalogue) == {1: "/a.png", 3: "/b.png"}


def test_a_missing_image_is_in_no_answer_but_still_known(catalogue: Catalogue) -> None:
    record(catalogue, image("/a.png"), 1, 0, 0)
    catalogue.set_present([1], False)
    assert list(catalogue.images()) == []
    assert catalogue.image_paths([1]) == {}
    assert list(catalogue.locations()) == list(catalogue.locations([1])) == []
    assert [place.id for place in catalogue.locations(include_missing=True)] == [1]
    assert not catalogue.known(["/a.png"])["/a.png"].present
    assert catalogue.count() == {"images": 0, "missing": 1, "failures": 0}
    catalogue.set_present([1], True)
    assert paths(catalogue) == {1: "/a.png"}


def test_a_moved_image_is_present_at_its_new_path_under_its_id(catalogue: Catalogue) -> None:
    record(catalogue, image("/a.png"), 1, 0, 0)
    catalogue.set_present([1], False)
    catalogue.ledger.fail(Failure("/b.png", "decode", "broken"))
    catalogue.move(1, FoundFile("/b.png", 5, 6))
    (found,) = catalogue.images()
    assert (found.id, found.path, found.size, found.mtime_ns) == (1, "/b.png", 5, 6)
    assert list(catalogue.ledger.failures()) == []


def test_known_answers_for_more_paths_than_one_query_can_name(catalogue: Catalogue) -> None:
    many = [f"/{number}.png" for number in range(2 * PATHS_PER_QUERY + 1)]
    with catalogue.atomic():
        for row, path in enumerate(many):
            record(catalogue, image(path), 1, row, 0)
    known = catalogue.known([*many, "/unknown.png"])
    assert {path: one.id for path, one in known.items()} == {path: row for row, path in enumerate(many, 1)}


def test_images_with_the_same_content_are_found_by_it_missing_ones_too(catalogue: Catalogue) -> None:
    for row, (path, content) in enumerate([("/a.png", 1), ("/b.png", 2), ("/c.png", 1)]):
        record(catalogue, image(path, content), 1, row, 0)
    catalogue.set_present([1], False)
    assert [(one.location.id, one.path) for one in catalogue.same_content(b"\x01" * 32)] == [
        (1, "/a.png"),
        (3, "/c.png"),
    ]
    assert catalogue.same_content(b"\x09" * 32) == []


def test_a_transaction_that_fails_leaves_nothing(catalogue: Catalogue) -> None:
    record(catalogue, image("/a.png"), 1, 0, 0)

    def fail() -> None:
        with catalogue.atomic():
            record(catalogue, image("/b.png"), 1, 1, 0)
            catalogue.forget([1])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert paths(catalogue) == {1: "/a.png"}


def test_two_images_never_share_a_row(catalogue: Catalogue) -> None:
    record(catalogue, image("/a.png"), 1, 0, 0)
    with pytest.raises(sqlite3.IntegrityError):
        record(catalogue, image("/b.png"), 1, 0, 0)


def test_a_snapshot_that_is_left_without_its_end_is_no_error(catalogue: Catalogue) -> None:
    block = catalogue.snapshot()
    block.__enter__()
    catalogue.close()
    del block  # pytest reports an exception that Python could not raise

    block = catalogue.snapshot()
    with pytest.raises(IndexClosed):
        block.__enter__()


def test_a_reader_cannot_write(catalogue: Catalogue) -> None:
    reader = Catalogue(catalogue.path, catalogue.paths)
    with contextlib.closing(reader), pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.forget([1])


def test_the_name_of_a_folder_may_contain_characters_with_a_meaning_in_uris(tmp_path: Path) -> None:
    folder = tmp_path / "50%?#&; it's"
    folder.mkdir()
    path = str(folder / "catalogue.db")
    with contextlib.closing(Catalogue(path, PathMap(path), write=True)) as made:
        made.set_setting("recipe", "{}")
    with contextlib.closing(Catalogue(path, PathMap(path))) as reader:
        assert reader.settings()["recipe"] == "{}"
