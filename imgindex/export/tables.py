"""Tables, and how each is rendered: as table, tsv, csv, json, jsonl or paths."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from imgindex.types import Vectors

# Columns of a table that is not for a terminal: no value is folded or cut.
WIDEST = 10**9


@dataclass(frozen=True, slots=True)
class Table:
    """The result of a command: `data` for json and jsonl, and flat `rows` with `columns` for the other formats.

    header: whether csv and tsv begin with the names of the columns.
    """

    data: Any
    rows: Sequence[dict[str, Any]]
    columns: Sequence[str]
    header: bool = True


def render(table: Table, format: str, *, width: int | None = None, null: bool = False) -> bytes:
    """Return the table as bytes; names that are not UTF-8 keep their bytes, except in JSON, which has \\udcXX for them.

    format: table, paths, or a key of RENDERERS. width: columns of the terminal that the format `table` is for; None for
    a table as wide as it needs to be. null: end each of the `paths` in NUL, not newline.
    """
    if format == "table":
        return _table(table, width).encode("utf-8", "backslashreplace")
    if format == "paths":
        return _paths(table, b"\0" if null else b"\n")
    return RENDERERS[format](table)


def _table(table: Table, width: int | None) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in table.columns:
        numbers = all(isinstance(row[column], int | float) for row in table.rows)
        drawn.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(printable(row[column])) for column in table.columns))
    text = io.StringIO()
    Console(file=text, width=width or WIDEST, force_terminal=width is not None, highlight=False).print(drawn)
    return "".join(line.rstrip() + "\n" for line in text.getvalue().splitlines())


def printable(value: Any) -> str:
    """Return a value as text without control characters: a file name may hold escape sequences for the terminal."""
    if isinstance(value, float):
        return f"{value:.4f}"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(value))


def _json(table: Table) -> bytes:
    return _dump(table.data, indent=2)


def _jsonl(table: Table) -> bytes:
    lines = table.data if isinstance(table.data, list) else [table.data]
    return b"".join(_dump(line) for line in lines)


def _dump(data: Any, indent: int | None = None) -> bytes:
    # Python represents a byte that is not UTF-8 as a lone surrogate, which becomes an escape sequence of JSON.
    return (json.dumps(data, ensure_ascii=False, indent=indent) + "\n").encode("utf-8", "backslashreplace")


def _separated(table: Table, delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    if table.header:
        writer.writerow(table.columns)
    writer.writerows([row[column] for column in table.columns] for row in table.rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _paths(table: Table, end: bytes) -> bytes:
    return b"".join(str(row["path"]).encode("utf-8", "surrogateescape") + end for row in table.rows)


RENDERERS: dict[str, Callable[[Table], bytes]] = {
    "json": _json,
    "jsonl": _jsonl,
    "csv": lambda table: _separated(table, ","),
    "tsv": lambda table: _separated(table, "\t"),
}
# Characters that a value cannot have in a format of which programs read a line a row. csv quotes them.
LINE_BREAKERS = {"paths": "\n", "tsv": "\t\r\n"}
# Formats that can be written line by line, before the last row is known.
LINES = ("jsonl", "csv", "tsv", "paths")
# The format of a file by its ending.
ENDINGS = {".json": "json", ".jsonl": "jsonl", ".csv": "csv", ".tsv": "tsv", ".txt": "paths"}


@dataclass(frozen=True, slots=True)
class Column:
    """One value for each image, or None; kind: integer, number or text."""

    name: str
    kind: str
    values: Sequence[Any]


@dataclass(frozen=True, slots=True)
class VectorTable:
    """Images to export: ids and paths (n each), and their vectors in blocks (m, dimension) in the same order.

    columns: further values of each image. thumbnails: a JPEG of each image, or None for one that cannot be read.
    """

    ids: list[int]
    paths: list[str]
    dimension: int
    blocks: Iterable[Vectors]
    columns: Sequence[Column] = ()
    thumbnails: Iterator[bytes | None] | None = None

    def parts(self) -> Iterator[tuple[slice, Vectors]]:
        """Yield each block of vectors with the slice of its rows."""
        start = 0
        for block in self.blocks:
            yield slice(start, start + len(block)), block
            start += len(block)
