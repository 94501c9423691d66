"""Numbers of a file system that do not fit into SQLite's integers."""

from __future__ import annotations

import dataclasses
import sys

import pytest
from catalogue_images import image, record

from imgindex.storage.catalogue import Catalogue
from imgindex.storage.records import clamp_int64, is_same_stat, stored_stat
from imgindex.types import Failure, FoundFile

# Years by their nanoseconds since 1970: 1601, just before 1970, 2262 as far as 64 bits reach, just beyond, 9999.
TIMES = (-11_644_473_600 * 10**9, -1, 2**63 - 1, 2**63, 253_402_300_799 * 10**9)


@pytest.mark.parametrize("number", [0, 1, -1, 2**63 - 1, -(2**63)])
def test_a_number_of_64_bits_stays_as_it_is(number: int) -> None:
    assert clamp_int64(number) == number


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 10**30, sys.maxsize + 1])
def test_a_greater_number_becomes_the_greatest_and_a_lesser_one_the_least(number: int) -> None:
    assert clamp_int64(number) == 2**63 - 1
    assert clamp_int64(-number - 1) == -(2**63)


@pytest.mark.parametrize("mtime_ns", TIMES)
def test_the_catalogue_stores_every_time_of_images_and_failures(catalogue: Catalogue, mtime_ns: int) -> None:
    record(catalogue, image("/a.png", 1, mtime_ns=mtime_ns), 1, 0, 0)
    record(catalogue, image("/b.png", 2), 1, 1, 0)
    catalogue.move(2, FoundFile("/b.png", 2**64, mtime_ns))
    catalogue.ledger.fail(Failure("/c.png", "read", "reason", 10**30, mtime_ns))
    clamped = max(min(mtime_ns, 2**63 - 1), -(2**63))
    assert [(one.size, one.mtime_ns) for one in catalogue.images()] == [
        (image("/a.png", 1).file.size, clamped),
        (2**63 - 1, clamped),
    ]
    (failure,) = catalogue.ledger.failures()
    assert dataclasses.replace(failure, tried_at="") == Failure("/c.png", "read", "reason", 2**63 - 1, clamped)


def test_a_file_with_another_version_has_changed_whatever_its_numbers(catalogue: Catalogue) -> None:
    file = FoundFile("/a.zip/1.png", 5, 7, version="crc32:1")
    record(catalogue, dataclasses.replace(image("/a.zip/1.png", 1), file=file), 1, 0, 0)
    catalogue.ledger.fail(Failure("/a.zip/2.png", "read", "reason", 5, 7, version="crc32:2"))
    catalogue.ledger.add_other_files([FoundFile("/a.zip/3", 5, 7, version="crc32:3")])
    before = catalogue.known(["/a.zip/1.png"])["/a.zip/1.png"].stat
    assert is_same_stat(before, stored_stat(file))
    assert not is_same_stat(before, stored_stat(dataclasses.replace(file, version="crc32:4")))
    assert not is_same_stat(before, stored_stat(dataclasses.replace(file, version=None)))
    assert [failure.version for failure in catalogue.ledger.failures()] == ["crc32:2"]
    seen = [FoundFile("/a.zip/3", 5, 7, version=version) for version in ("crc32:3", "crc32:4")]
    assert [catalogue.ledger.other_files([one]) for one in seen] == [{"/a.zip/3"}, set()]
    catalogue.move(1, dataclasses.replace(file, version="crc32:5"))
    assert catalogue.known(["/a.zip/1.png"])["/a.zip/1.png"].stat[4] == "crc32:5"
