"""The journal of moved files: whole lines only, never of another program, never out of its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import imgindex
from imgindex.curation.move_journal import HEADER, Journal
from imgindex.errors import FolderNotOurs

JOURNAL = ".imgindex-moved.jsonl"


def record(number: int) -> dict[str, Any]:
    return {"from": f"/photos/{number}.png", "to": f"photos/{number}.png", "size": number, "sha256": "00"}


@pytest.fixture
def spare(tmp_path: Path) -> Path:
    folder = tmp_path / "spare"
    folder.mkdir()
    return folder


def test_records_are_read_back_in_their_order_and_added_to(spare: Path) -> None:
    first = Journal.open(str(spare))
    assert first.records == []
    for number in range(2):
        first.write(record(number))
    second = Journal.open(str(spare))
    assert second.records == [record(0), record(1)]
    second.write(record(2))
    assert Journal.read(str(spare)).records == [record(number) for number in range(3)]


def test_a_line_that_was_cut_off_is_left_out_and_written_over(spare: Path) -> None:
    Journal.open(str(spare)).write(record(0))
    whole = (spare / JOURNAL).read_bytes()
    (spare / JOURNAL).write_bytes(whole + b'{"from": "/photos/1.png", "to": "pho')
    cut = Journal.read(str(spare))
    assert cut.records == [record(0)]
    cut.write(record(2))
    assert Journal.read(str(spare)).records == [record(0), record(2)]


def test_only_the_wanted_records_are_kept_and_without_any_the_file_goes(spare: Path) -> None:
    journal = Journal.open(str(spare))
    for number in range(3):
        journal.write(record(number))
    journal.replace([record(1)])
    assert Journal.read(str(spare)).records == journal.records == [record(1)]
    (spare / f"{JOURNAL}.new").write_text("left by a process that died")
    journal.replace([])
    assert list(spare.iterdir()) == []


def test_a_folder_with_other_files_or_without_a_journal_is_refused(spare: Path) -> None:
    with pytest.raises(FolderNotOurs, match="moved no files"):
        Journal.read(str(spare))
    (spare / "a.txt").touch()
    with pytest.raises(FolderNotOurs, match="did not move there"):
        Journal.open(str(spare))


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        ([HEADER | {"version": 2}], "newer imgindex"),
        ([{"journal": "of another program"}], "damaged"),
        ([HEADER, {"from": "/a.png"}], "damaged"),
        ([HEADER, record(0) | {"from": 7}], "damaged"),
        ([HEADER, record(0) | {"to": "a\0b"}], "damaged"),
        ([HEADER, record(0) | {"from": "a.png"}], "impossible paths"),
    ],
    ids=str,
)
def test_what_no_move_wrote_is_refused(spare: Path, lines: list[Any], match: str) -> None:
    (spare / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(FolderNotOurs, match=match):
        Journal.read(str(spare))


@pytest.mark.parametrize("to", ["../../p/a.png", "/etc/passwd", "x/../../y"])
def test_a_journal_from_elsewhere_does_not_reach_out_of_its_folder(spare: Path, to: str) -> None:
    text = "".join(json.dumps(line) + "\n" for line in (HEADER, record(0) | {"to": to}))
    (spare / JOURNAL).write_text(text)
    with pytest.raises(FolderNotOurs, match="damaged"):
        imgindex.undo_move(spare)
