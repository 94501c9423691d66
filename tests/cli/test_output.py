"""How values, remarks and tables are written."""

from __future__ import annotations

import io
import os
import sys

import pytest
from rich.cells import cell_len

from imgindex.cli import terminal
from imgindex.cli.output import count, duration, naming, remark, size, suggest
from imgindex.export.tables import Table


@pytest.mark.parametrize(("number", "text"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (1200, "1,200 images")])
def test_a_count_has_a_noun_in_the_right_number(number: int, text: str) -> None:
    assert count(number, "image") == text


def test_a_count_takes_an_irregular_plural() -> None:
    assert (count(1, "query", "queries"), count(3, "query", "queries")) == ("1 query", "3 queries")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (812, "812 B"),
        (1000, "1.0 kB"),
        (8_500_000, "8.5 MB"),
        (999_960, "1.0 MB"),
        (2_340_000_000, "2.3 GB"),
        (5 * 10**15, "5,000.0 TB"),
    ],
)
def test_a_size_is_in_the_largest_unit_that_it_fills(number: int, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "under 0.1 s"),
        (0.049, "under 0.1 s"),
        (0.05, "0.1 s"),
        (16.54, "16.5 s"),
        (99.96, "2 min"),
        (3599.0, "60 min"),
        (5970.0, "1 h 40 min"),
        (11100.0, "3 h 5 min"),
    ],
)
def test_a_time_is_in_units_that_people_use(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_long_list_is_named_by_its_first_items() -> None:
    assert naming("ab") == "'a', 'b'"
    assert naming("abcdefg") == "'a', 'b', 'c', 'd', 'e' and 2 more"


def test_a_suggestion_names_the_index_that_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    suggest("cluster", "cluster -k 5", index="my index", quiet=False)
    suggest("cluster", "cluster -k 5", index=None, quiet=True)
    assert capsys.readouterr().err == "next: cluster\n  imgindex cluster -k 5 --index 'my index'\n"


def test_remarks_are_broken_between_words_on_a_terminal_alone() -> None:
    text = "kept as clustering 1: imgindex clusterings show 1"
    assert terminal.wrap(text, None) == terminal.wrap(text, 10) == text
    assert terminal.wrap(text, 24) == "kept as clustering 1:\nimgindex clusterings\nshow 1"


ROWS = [{"rank": 1, "path": "a/path of some length.jpg", "nearest": "another/path of a length.jpg", "id": 7}]
WIDE = Table(ROWS, ROWS, ["rank", "path", "nearest", "id"])


def test_a_table_lacks_optional_columns_only_where_it_is_readable_without_them() -> None:
    two = Table(ROWS, ROWS, ["rank", "path", "id"])
    assert terminal.fit(two, None, ["id"]) is two
    assert terminal.fit(two, 80, ["id"]) is two
    assert terminal.fit(two, 35, ["id"]).columns == ["rank", "path"]
    assert terminal.fit(WIDE, 30, ["id"]) is WIDE


def test_a_table_that_is_too_wide_is_printed_as_records() -> None:
    assert not terminal.is_too_narrow(WIDE, None)
    assert not terminal.is_too_narrow(WIDE, 80)
    assert terminal.is_too_narrow(WIDE, 30)
    assert terminal.as_records(WIDE, 30).decode().splitlines() == [
        "rank     1",
        "path     a/path of some",
        "         length.jpg",
        "nearest  another/path of a",
        "         length.jpg",
        "id       7",
    ]


def test_a_remark_of_a_signal_handler_is_printed_while_another_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python refuses to enter the buffer of stderr again while it is written to."""
    reader, writer = os.pipe()

    class Busy(io.StringIO):
        def write(self, text: str) -> int:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

        def fileno(self) -> int:
            return writer

    monkeypatch.setattr(sys, "stderr", Busy())
    remark("finishing this batch …")
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as file:
        assert file.read() == "finishing this batch …\n"


WIDE_NAMES = [{"path": "写真フォルダ/とても長い名前の写真.jpg", "nearest": "写真/猫.jpg", "id": 1}]


def test_characters_of_two_columns_are_counted_as_such() -> None:
    table = Table(WIDE_NAMES, WIDE_NAMES, ["path", "nearest", "id"])
    assert not terminal.is_too_narrow(table, 60)
    assert terminal.is_too_narrow(table, 30)
    lines = terminal.as_records(table, 24).decode().splitlines()
    assert "".join(line[9:] for line in lines if line.startswith(("path", " "))) == WIDE_NAMES[0]["path"]
    assert all(cell_len(line) <= 24 for line in lines)
    wrapped = terminal.wrap("failed: 写真 フォルダ とても 長い 名前の 写真.jpg: reason", 24).splitlines()
    assert len(wrapped) > 2
    assert all(cell_len(line) <= 24 for line in wrapped)
