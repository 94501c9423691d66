"""One table in every format."""

from __future__ import annotations

import csv
import io
import json
import os

import pytest

from imgindex.export.tables import Table, render

NAMES = [
    "plain.jpg",
    "with space.jpg",
    "quo\"te's,;.jpg",
    "new\nline.jpg",
    "tab\t.jpg",
    "été.jpg",
    os.fsdecode(b"\xff.jpg"),
]
ROWS = [{"id": number, "path": name, "distance": number / 3} for number, name in enumerate(NAMES)]
TABLE = Table(ROWS, ROWS, ["id", "path", "distance"])


def test_json_keeps_every_name() -> None:
    assert [row["path"] for row in json.loads(render(TABLE, "json"))] == NAMES


def test_jsonl_has_a_line_for_each_row() -> None:
    lines = render(TABLE, "jsonl").splitlines()
    assert [json.loads(line)["path"] for line in lines] == NAMES


@pytest.mark.parametrize(("format", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_separated_values_keep_every_name_to_the_byte(format: str, delimiter: str) -> None:
    text = render(TABLE, format).decode("utf-8", "surrogateescape")
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    assert [row["path"] for row in rows] == NAMES
    assert os.fsencode(rows[-1]["path"]) == b"\xff.jpg"


def test_paths_are_the_bytes_that_the_file_system_has() -> None:
    assert render(TABLE, "paths") == b"".join(os.fsencode(name) + b"\n" for name in NAMES)


def test_a_table_shows_every_row_and_escapes_control_characters() -> None:
    rows = [{"path": "\x1b[31mred\x1b[0m\r.jpg"}]
    text = render(Table(rows, rows, ["path"]), "table").decode()
    assert "\x1b" not in text
    assert "\r" not in text
    assert "red" in text


def test_a_table_that_is_not_for_a_terminal_cuts_nothing() -> None:
    rows = [{"path": "x" * 500}]
    assert "x" * 500 in render(Table(rows, rows, ["path"]), "table").decode()
