"""What the ledger remembers of failures, roots and runs."""

from __future__ import annotations

from catalogue_images import image, record

from imgindex.storage.catalogue import Catalogue
from imgindex.types import Failure


def test_a_failure_makes_the_image_at_its_path_missing_until_it_is_recorded_again(catalogue: Catalogue) -> None:
    record(catalogue, image("/a.png"), 1, 0, 0)
    catalogue.ledger.fail(Failure("/a.png", "decode", "broken", 5, 6))
    assert catalogue.image_paths() == {}
    (failure,) = catalogue.ledger.failures()
    assert (failure.path, failure.stage, failure.reason, failure.size, failure.mtime_ns) == (
        "/a.png",
        "decode",
        "broken",
        5,
        6,
    )
    assert failure.tried_at
    record(catalogue, image("/a.png", 2), 1, 1, 0)
    assert catalogue.image_paths() == {1: "/a.png"}
    assert list(catalogue.ledger.failures()) == []


def test_an_image_that_is_present_again_has_no_failure(catalogue: Catalogue) -> None:
    record(catalogue, image("/a.png"), 1, 0, 0)
    catalogue.ledger.fail(Failure("/a.png", "decode", "broken"))
    catalogue.ledger.fail(Failure("/b.png", "decode", "broken"))
    catalogue.set_present([1], True)
    assert [failure.path for failure in catalogue.ledger.failures()] == ["/b.png"]


def test_a_path_fails_once_with_the_latest_reason(catalogue: Catalogue) -> None:
    catalogue.ledger.fail(Failure("/a.png", "read", "first"))
    catalogue.ledger.fail(Failure("/a.png", "decode", "second"))
    assert [failure.reason for failure in catalogue.ledger.failures()] == ["second"]


def test_roots_are_remembered_once(catalogue: Catalogue) -> None:
    catalogue.ledger.add_roots({"/home/ann/photos": None, "/mnt": None})
    catalogue.ledger.add_roots({"/mnt": None})
    assert sorted(catalogue.ledger.roots()) == ["/home/ann/photos", "/mnt"]


def test_a_root_on_another_disk_is_remembered_with_where_that_was_last_mounted(catalogue: Catalogue) -> None:
    catalogue.ledger.add_roots({"/home/ann/photos": None, "/mnt/a/photos": "/mnt/a", "/m/\udcff": "/m"})
    assert catalogue.ledger.mounts() == {"/mnt/a/photos": "/mnt/a", "/m/\udcff": "/m"}
    catalogue.ledger.add_roots({"/mnt/a/photos": None, "/m/\udcff": "/m/\udcff"})
    assert catalogue.ledger.mounts() == {"/m/\udcff": "/m/\udcff"}


def test_the_last_runs_are_returned_newest_first(catalogue: Catalogue) -> None:
    for number in range(3):
        catalogue.ledger.record_run("add", f"at {number}", 1.5, {"added": number})
    assert catalogue.ledger.runs(2) == [
        {"command": "add", "started_at": "at 2", "seconds": 1.5, "added": 2},
        {"command": "add", "started_at": "at 1", "seconds": 1.5, "added": 1},
    ]
