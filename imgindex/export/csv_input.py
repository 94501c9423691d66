"""Reads a CSV that another program wrote: a header, and rows with as many columns."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import os

from imgindex.errors import ImgindexError, UsageError
from imgindex.storage.paths import on_this_machine
from imgindex.types import Path

# A table of a million images with a hundred columns has about this many bytes.
MOST_BYTES = 1 << 30
BLOCK_BYTES = 1 << 20
# What spreadsheets put between columns where a comma is part of numbers.
SEPARATORS = (";", "\t", "|")


def read_text(path: Path, *, errors: str = "surrogateescape", error: type[ImgindexError] = UsageError) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 if it begins with that mark; without the mark.

    errors: surrogateescape keeps the bytes of file names that are not UTF-8; strict raises UnicodeDecodeError for them.
    error: the class to raise for other encodings that have NULs, and for a file of more than 1 GiB. Raises OSError too.
    """
    at = on_this_machine(path)
    size = os.path.getsize(at)
    if size > MOST_BYTES:
        raise error(f"{path} is too large: {size / 1e9:.1f} GB; a table may have {MOST_BYTES / 1e9:.1f} GB")
    with open(at, "rb") as file:
        # In blocks: read(MOST_BYTES) would set a gigabyte aside, whatever the size of the file.
        blocks = iter(lambda: file.read(BLOCK_BYTES), b"")
        data = b"".join(itertools.islice(blocks, MOST_BYTES // BLOCK_BYTES))
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as problem:
            raise error(f"{os.fspath(path)} is damaged: {problem}", hint="save it as CSV in UTF-8") from problem
    if b"\0" in data:
        raise error(f"{os.fspath(path)} has NULs: it is in UTF-16, or not a text", hint="save it as CSV in UTF-8")
    return data.decode("utf-8-sig", errors)


def parse_csv(
    text: str, name: str, *, example: str, error: type[ImgindexError] = UsageError
) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a CSV with at least two columns; empty lines are left out.

    name: what a message calls the CSV. example: a header that would do, for the hint. error: the class to raise for
    text that is not such a CSV.
    """
    hint = f"its header should be like {example}"
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    try:
        for row in filter(None, reader):
            rows.append(row)
            if len(row) != len(rows[0]):
                break
    except (csv.Error, ValueError) as problem:
        raise error(f"{name} is not a CSV: {problem}", hint=hint) from problem
    if not rows or len(rows[0]) < 2:
        other = next((mark for mark in SEPARATORS if rows and mark in rows[0][0]), None)
        found = f": its columns are separated by {other!r}, not by commas" if other else ""
        raise error(f"{name} is not a CSV with a header of at least two columns{found}", hint=hint)
    header, *rest = rows
    if rest and len(rest[-1]) != len(header):
        columns = f"{len(rest[-1])}, not {len(header)}"
        raise error(
            f"line {reader.line_num} of {name} has another number of columns than its header: {columns}", hint=hint
        )
    return header, rest
