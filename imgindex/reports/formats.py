"""One answer in every format: table, tsv, csv, json, jsonl, paths."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Document:
    """An answer in its two shapes: `data` for JSON, and flat `rows` with `columns` for everything else.

    header: whether csv and tsv begin with the names of the columns.
    """

    data: Any
    rows: Sequence[dict[str, Any]]
    columns: Sequence[str]
    header: bool = True


def render(document: Document, format: str, *, width: int | None = None) -> bytes:
    """Return the document in that format; names that are not UTF-8 keep their bytes, in JSON they become \\udcXX.

    width: columns of the terminal that a table is for; None lets it be as wide as it needs.
    """
    if format == "table":
        return _table(document, width).encode("utf-8", "backslashreplace")
    return RENDERERS[format](document)


def _table(document: Document, width: int | None) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in document.columns:
        numbers = all(isinstance(row[column], int | float) for row in document.rows)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in document.rows:
        table.add_row(*(Text(printable(row[column])) for column in document.columns))
    text = io.StringIO()
    Console(file=text, width=width or 10_000, force_terminal=width is not None, highlight=False).print(table)
    return "".join(line.rstrip() + "\n" for line in text.getvalue().splitlines())


def printable(value: Any) -> str:
    """A file's name may hold anything, even what would steer the terminal."""
    if isinstance(value, float):
        return f"{value:.4f}"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(value))


def _json(document: Document) -> bytes:
    return _dump(document.data, indent=2)


def _jsonl(document: Document) -> bytes:
    lines = document.data if isinstance(document.data, list) else [document.data]
    return b"".join(_dump(line) for line in lines)


def _dump(data: Any, indent: int | None = None) -> bytes:
    # A lone surrogate, which is how Python holds a byte that is not UTF-8, becomes JSON's own escape for it.
    return (json.dumps(data, ensure_ascii=False, indent=indent) + "\n").encode("utf-8", "backslashreplace")


def _separated(document: Document, delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    if document.header:
        writer.writerow(document.columns)
    writer.writerows([row[column] for column in document.columns] for row in document.rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _paths(document: Document) -> bytes:
    return b"".join(str(row["path"]).encode("utf-8", "surrogateescape") + b"\n" for row in document.rows)


RENDERERS: dict[str, Callable[[Document], bytes]] = {
    "json": _json,
    "jsonl": _jsonl,
    "csv": lambda document: _separated(document, ","),
    "tsv": lambda document: _separated(document, "\t"),
    "paths": _paths,
}
# Those whose lines can be written one after the other, before the last is known.
LINES = ("jsonl", "csv", "tsv", "paths")
# What a file's ending says of its format.
ENDINGS = {".json": "json", ".jsonl": "jsonl", ".csv": "csv", ".tsv": "tsv", ".txt": "paths"}
