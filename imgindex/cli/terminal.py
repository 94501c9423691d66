"""How answers and remarks fit the terminal that shows them; without a terminal they are as wide as they need."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import IO

from imgindex.export.tables import Table, printable

# Text is not wrapped to fewer columns than this: a word would hardly fit.
NARROWEST = 20
# Columns between two columns of a table.
GAP = 3
# A column of paths or words is readable when it is folded to this width.
FOLDED = 16


def columns_of(stream: IO[str] | None) -> int | None:
    """Return how many columns the terminal behind a stream has; None if it is not a terminal, or has no width."""
    try:
        if stream is None or not stream.isatty():
            return None
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


def wrap(text: str, columns: int | None) -> str:
    """Return text broken between words, so that a terminal does not break it within words."""
    if columns is None or columns < NARROWEST:
        return text
    if len(text) == _cells(text):
        return textwrap.fill(text, columns, break_long_words=False, break_on_hyphens=False, replace_whitespace=False)
    return "\n".join(_lines(text, columns))


def fit(table: Table, columns: int | None, optional: Sequence[str] = ()) -> Table:
    """Return a table without some of its optional columns, the first ones first, if that makes it readable."""
    names = list(table.columns)
    for name in optional:
        if columns is None or _width(table) <= columns:
            break
        names = [other for other in names if other != name]
        smaller = replace(table, columns=names)
        if not is_too_narrow(smaller, columns):
            return smaller
    return table


def is_too_narrow(table: Table, columns: int | None) -> bool:
    """Whether a table is hard to read on a terminal: its widest column would be folded to a few letters a line."""
    if columns is None or columns < NARROWEST or len(table.columns) < 3:
        return False
    widest = max(_widths(table))
    return columns - (_width(table) - widest) < min(widest, FOLDED)


def as_records(table: Table, columns: int) -> bytes:
    """Return a table as a block of lines for each row, one line a value: for terminals on which it is too narrow."""
    first = max(map(len, table.columns))
    room = max(1, columns - first - 2)
    lines: list[str] = []
    for row in table.rows:
        lines += [""] if lines else []
        for name in table.columns:
            value = printable(row[name])
            pieces = _lines(value, room, break_words=True)
            lines += [f"{name if not at else '':<{first}}  {piece}" for at, piece in enumerate(pieces)]
    return "".join(line + "\n" for line in lines).encode("utf-8", "backslashreplace")


def _lines(text: str, columns: int, *, break_words: bool = False) -> list[str]:
    """Break text between words into lines of so many columns; break_words: also within words that are longer.

    Unlike textwrap, it counts a Chinese, Japanese or Korean character as two columns, as terminals do.
    """
    from rich.cells import chop_cells

    lines, line = [], ""
    for word in re.findall(r"\s*\S+", text):
        if _cells(line + word) <= columns:
            line += word
            continue
        lines += [line] if line else []
        *whole, line = chop_cells(word.strip(), columns) if break_words else [word.strip()]
        lines += whole
    return [*lines, line] if line else lines


def _cells(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _width(table: Table) -> int:
    return sum(_widths(table)) + GAP * (len(table.columns) - 1)


def _widths(table: Table) -> Sequence[int]:
    return [max([_cells(name), *(_cells(printable(row[name])) for row in table.rows)]) for name in table.columns]
