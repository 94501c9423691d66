"""What the catalogue remembers of images, failures, roots and runs."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgindex.storage.catalogue import CHUNK, Catalogue
from imgindex.storage.paths import PathMap
from imgindex.storage.records import NewImage
from imgindex.types import Failure, FoundFile


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    made = Catalogue(str(tmp_path / "catalogue.db"), PathMap("/home/ann/it.imgindex"), write=True)
    with contextlib.closing(made):
        made.set_rows(1, 10_000)
        yield made


def image(path: str, content: int = 0, *, size: int = 100, mtime_ns: int = 1) -> NewImage:
    return NewImage(FoundFile(path, size, mtime_ns), bytes([content]) * 32, 640, 480, "PNG")


def paths(catalogue: Catalogue) -> dict[int, str]:
    return catalogue.image_paths()


def test_an_image_is_recorded_with_all_that_is_known_of_it(catalogue: Catalogue) -> None:
    catalogue.put(image("/home/ann/a.png", 7, size=123, mtime_ns=2**60), 1, 5, 0xFFFFFFFF)
    (found,) = catalogue.images()
    assert (found.id, found.path, found.size, found.mtime_ns) == (1, "/home/ann/a.png", 123, 2**60)
    assert (found.sha256, found.width, found.height, found.format) == ("07" * 32, 640, 480, "PNG")
    (place,) = catalogue.locations([1])
    assert (place.segment, place.row, place.crc32) == (1, 5, 0xFFFFFFFF)


def test_a_changed_image_keeps_its_id(catalogue: Catalogue) -> None:
    catalogue.put(image("/a.png", 1), 1, 0, 0)
    catalogue.put(image("/b.png", 2), 1, 1, 0)
    catalogue.put(image("/a.png", 3), 1, 2, 0)
    assert {found.id: found.sha256[:2] for found in catalogue.images()} == {1: "03", 2: "02"}


def test_an_id_is_never_given_again(catalogue: Catalogue) -> None:
    catalogue.put(image("/a.png"), 1, 0, 0)
    catalogue.put(image("/b.png"), 1, 1, 0)
    catalogue.forget([2])
    catalogue.put(image("/b.png"), 1, 2, 0)
    assert paths(catalogue) == {1: "/a.png", 3: "/b.png"}


def test_a_hidden_image_is_in_no_answer_but_still_known(catalogue: Catalogue) -> None:
    catalogue.put(image("/a.png"), 1, 0, 0)
    catalogue.show([1], False)
    assert list(catalogue.images()) == []
    assert catalogue.image_paths([1]) == {}
    assert list(catalogue.locations()) == list(catalogue.locations([1])) == []
    assert [place.id for place in catalogue.locations(hidden=True)] == [1]
    assert not catalogue.known(["/a.png"])["/a.png"].present
    assert catalogue.count() == {"images": 0, "absent": 1, "failures": 0}
    catalogue.show([1], True)
    assert paths(catalogue) == {1: "/a.png"}


def test_a_moved_image_is_shown_at_its_new_path_under_its_id(catalogue: Catalogue) -> None:
    catalogue.put(image("/a.png"), 1, 0, 0)
    catalogue.show([1], False)
    catalogue.journal.fail(Failure("/b.png", "decode", "broken"))
    catalogue.move(1, FoundFile("/b.png", 5, 6))
    (found,) = catalogue.images()
    assert (found.id, found.path, found.size, found.mtime_ns) == (1, "/b.png", 5, 6)
    assert list(catalogue.journal.failures()) == []


def test_known_answers_for_more_paths_than_one_query_can_name(catalogue: Catalogue) -> None:
    many = [f"/{number}.png" for number in range(2 * CHUNK + 1)]
    with catalogue.atomic():
        for row, path in enumerate(many):
            catalogue.put(image(path), 1, row, 0)
    known = catalogue.known([*many, "/unknown.png"])
    assert {path: one.id for path, one in known.items()} == {path: row for row, path in enumerate(many, 1)}


def test_images_of_one_content_are_found_by_it_the_hidden_ones_too(catalogue: Catalogue) -> None:
    for row, (path, content) in enumerate([("/a.png", 1), ("/b.png", 2), ("/c.png", 1)]):
        catalogue.put(image(path, content), 1, row, 0)
    catalogue.show([1], False)
    assert [(twin.place.id, twin.path) for twin in catalogue.twins(b"\x01" * 32)] == [(1, "/a.png"), (3, "/c.png")]
    assert catalogue.twins(b"\x09" * 32) == []


def test_a_failure_hides_the_image_at_its_path_until_it_is_recorded_anew(catalogue: Catalogue) -> None:
    catalogue.put(image("/a.png"), 1, 0, 0)
    catalogue.journal.fail(Failure("/a.png", "decode", "broken", 5, 6))
    assert paths(catalogue) == {}
    (failure,) = catalogue.journal.failures()
    assert (failure.path, failure.stage, failure.reason, failure.size, failure.mtime_ns) == (
        "/a.png",
        "decode",
        "broken",
        5,
        6,
    )
    assert failure.tried_at
    catalogue.put(image("/a.png", 2), 1, 1, 0)
    assert paths(catalogue) == {1: "/a.png"}
    assert list(catalogue.journal.failures()) == []


def test_an_image_that_is_shown_again_has_no_failure_any_more(catalogue: Catalogue) -> None:
    catalogue.put(image("/a.png"), 1, 0, 0)
    catalogue.journal.fail(Failure("/a.png", "decode", "broken"))
    catalogue.journal.fail(Failure("/b.png", "decode", "broken"))
    catalogue.show([1], True)
    assert [failure.path for failure in catalogue.journal.failures()] == ["/b.png"]


def test_a_path_fails_once_with_the_latest_reason(catalogue: Catalogue) -> None:
    catalogue.journal.fail(Failure("/a.png", "read", "first"))
    catalogue.journal.fail(Failure("/a.png", "decode", "second"))
    assert [failure.reason for failure in catalogue.journal.failures()] == ["second"]


def test_roots_are_remembered_once(catalogue: Catalogue) -> None:
    catalogue.journal.add_roots({"/home/ann/photos": None, "/mnt": None})
    catalogue.journal.add_roots({"/mnt": None})
    assert sorted(catalogue.journal.roots()) == ["/home/ann/photos", "/mnt"]


def test_a_root_on_another_disk_is_remembered_with_where_that_was_last_mounted(catalogue: Catalogue) -> None:
    catalogue.journal.add_roots({"/home/ann/photos": None, "/mnt/a/photos": "/mnt/a", "/m/\udcff": "/m"})
    assert catalogue.journal.mounts() == {"/mnt/a/photos": "/mnt/a", "/m/\udcff": "/m"}
    catalogue.journal.add_roots({"/mnt/a/photos": None, "/m/\udcff": "/m/\udcff"})
    assert catalogue.journal.mounts() == {"/m/\udcff": "/m/\udcff"}


def test_the_last_runs_are_told_newest_first(catalogue: Catalogue) -> None:
    for number in range(3):
        catalogue.journal.record_run("add", f"at {number}", 1.5, {"added": number})
    assert catalogue.journal.runs(2) == [
        {"command": "add", "started_at": "at 2", "seconds": 1.5, "added": 2},
        {"command": "add", "started_at": "at 1", "seconds": 1.5, "added": 1},
    ]


def test_a_transaction_that_fails_leaves_nothing(catalogue: Catalogue) -> None:
    catalogue.put(image("/a.png"), 1, 0, 0)

    def fail() -> None:
        with catalogue.atomic():
            catalogue.put(image("/b.png"), 1, 1, 0)
            catalogue.forget([1])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert paths(catalogue) == {1: "/a.png"}


def test_two_images_never_share_a_row(catalogue: Catalogue) -> None:
    catalogue.put(image("/a.png"), 1, 0, 0)
    with pytest.raises(sqlite3.IntegrityError):
        catalogue.put(image("/b.png"), 1, 0, 0)


def test_a_reader_cannot_write(catalogue: Catalogue) -> None:
    reader = Catalogue(catalogue.path, catalogue.paths)
    with contextlib.closing(reader), pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.forget([1])


def test_a_folder_s_name_may_hold_what_addresses_give_a_meaning(tmp_path: Path) -> None:
    folder = tmp_path / "50%?#&; it's"
    folder.mkdir()
    path = str(folder / "catalogue.db")
    with contextlib.closing(Catalogue(path, PathMap(path), write=True)) as made:
        made.set_setting("recipe", "{}")
    with contextlib.closing(Catalogue(path, PathMap(path))) as reader:
        assert reader.settings()["recipe"] == "{}"
