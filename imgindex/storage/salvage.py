"""Salvages a damaged catalogue: writes a new one with the rows that can be read.

SQLite cannot detect which rows of a damaged file are wrong. So every salvaged image is marked as missing, with a
modification time that no file has. `repair` and `add` mark it as present again once they have read its file and found
the same content. Failures are dropped: wrong ones cannot be detected, and `add` finds all failures again. Tags and
metadata are kept where they are valid: wrong ones cannot be detected either, but they could not be restored.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

from imgindex.errors import FormatTooNew, IndexDamaged
from imgindex.storage import checksum, clusterings, durable, tags
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.connection import address_of
from imgindex.storage.ledger import read_report
from imgindex.storage.paths import PathMap
from imgindex.storage.segments import DTYPES
from imgindex.storage.store import CATALOGUE, check_integrity, fill_catalogue

# Every row is longer than this many bytes, so the size of the file limits the ids that are worth a query.
ROW_SIZE = 64
# No index has more segments of 1 GB, or more rows in a segment.
SEGMENTS, ROWS = 10**6, 2**30
WAYS_OUT = f"put {CATALOGUE} back from a copy, or move the index away and add the images again"
# A modification time that no file has, so that the image looks changed.
UNCONFIRMED_MTIME = -1

Row = tuple[Any, ...]
Kinds = tuple[type | tuple[type, ...], ...]

IMAGE: dict[str, type | tuple[type, ...]] = {
    "id": int, "path": (str, bytes), "size": int, "mtime_ns": int, "sha256": bytes, "width": int, "height": int,
    "format": str, "segment": int, "row": int, "crc32": int, "present": int, "added_at": str,
}  # fmt: skip
COLUMNS = ", ".join(IMAGE)
SEGMENT, ROW = list(IMAGE).index("segment"), list(IMAGE).index("row")
LAST_ID = "select seq from sqlite_sequence where name = 'images'"


def damage(path: str) -> str:
    """Return what is damaged in the catalogue of the index at `path`, "" when it is sound. Raises FormatTooNew."""
    database = os.path.join(path, CATALOGUE)
    try:
        with closing(Catalogue(database, PathMap(path))) as catalogue:
            checksum.check(database, whole=True)
            check_integrity(catalogue)
    except FormatTooNew:
        raise
    except (IndexDamaged, sqlite3.Error) as error:
        return str(error)
    return ""


def salvage(path: str) -> int:
    """Replace a damaged catalogue with a new one, and return how many images were salvaged; the caller has the lock.

    Raises IndexDamaged, and changes nothing, when the recipe is lost, or all images are lost and there are vectors.
    """
    database = os.path.join(path, CATALOGUE)
    # Move the log into the damaged file first: SQLite must never read it as the log of the new catalogue.
    with suppress(sqlite3.Error, UnicodeDecodeError), closing(sqlite3.connect(database)) as connection:
        durable.disk.execute(database, connection, "pragma wal_checkpoint(truncate)")
    with closing(_open(database)) as old:
        settings = _settings(old, path)
        images = {row[0]: row for row in _images(old, os.path.getsize(database) // ROW_SIZE)}
        roots = _rows(old, "select path, added_at from roots", ((str, bytes), str))
        runs = _rows(old, "select command, started_at, seconds, report from runs order by id", RUN)
        if not images and os.listdir(os.path.join(path, "segments")):
            raise IndexDamaged(
                f"no image can be read from the catalogue at {path}, and there are vectors", hint=WAYS_OUT
            )
        tables = {table: _rows(old, f"select {columns} from {table}", kinds) for table, columns, kinds in TABLES}
        tagged = _rows(old, "select image, tag from tags", TAG)
        described = _rows(old, "select image, key, value from metadata", VALUE)
        last = max([*images, *(id for (id,) in _rows(old, LAST_ID, (int,)) if id < 2**48)], default=0)

    def fill(new: Catalogue) -> None:
        rows: dict[int, int] = {}
        for row in images.values():
            rows[row[SEGMENT]] = max(rows.get(row[SEGMENT], 0), row[ROW] + 1)
        for number, count in rows.items():
            new.set_rows(number, count)
        run = new.connection.executemany
        # Foreign keys are checked at the commit, when the rows of unreadable clusterings and images are gone.
        new.connection.execute("pragma defer_foreign_keys = on")
        run(f"insert or ignore into images ({COLUMNS}) values ({', '.join('?' * len(IMAGE))})", images.values())
        run("update images set present = 0, mtime_ns = ?", [(UNCONFIRMED_MTIME,)])
        # Only for images that were salvaged.
        exists = "where exists (select 1 from images where id = ?1)"
        run(f"insert or ignore into tags select ?1, ?2 {exists}", filter(_is_tag, tagged))
        run(f"insert or ignore into metadata select ?1, ?2, ?3 {exists}", filter(_is_value, described))
        run("insert or ignore into roots (path, added_at) values (?, ?)", roots)
        run("insert into runs (command, started_at, seconds, report) values (?, ?, ?, ?)", filter(_is_run, runs))
        for table, columns, kinds in TABLES:
            marks = ", ".join("?" * len(kinds))
            run(f"insert or ignore into {table} ({columns}) values ({marks})", tables[table])
        clusterings.drop_unreadable(new)
        run("delete from sqlite_sequence where name = ?", [("images",)])
        run("insert into sqlite_sequence values (?, ?)", [("images", last)])

    fill_catalogue(path, settings, fill)
    return len(images)


# Tables that are copied as they are: name, columns, types. Clusterings come before the rows that refer to them.
TABLES: tuple[tuple[str, str, Kinds], ...] = (
    ("clusters", "id, name", (int, (str, type(None)))),
    (
        "clusterings",
        "id, made_at, receipt, clusters, centroids, members, paths, details, sample",
        (int, str, str, str, bytes, bytes, bytes, (bytes, type(None)), (bytes, type(None))),
    ),
    ("assigned", "clustering, image, label, crc32", (int, int, int, int)),
)
RUN: Kinds = (str, str, (int, float), str)
TAG: Kinds = (int, str)
VALUE: Kinds = (int, str, (str, int, float))


def _open(database: str) -> sqlite3.Connection:
    connection = sqlite3.connect(address_of(database, "ro"), uri=True, isolation_level=None)
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    connection.execute("pragma trusted_schema = off")
    # SQLite then ignores definitions that it cannot parse, and the other tables can be read.
    connection.execute("pragma writable_schema = on")
    return connection


def _settings(old: sqlite3.Connection, path: str) -> dict[str, str]:
    found: dict[str, str] = dict(_rows(old, "select key, value from settings", (str, str)))
    recipe, digest = found.get("recipe", ""), found.get("recipe_digest", "")
    # The recipe's digest is stored beside it and in every segment: a recipe that has its digest is right.
    if hashlib.sha256(recipe.encode()).hexdigest() != digest or found.get("store") not in DTYPES:
        raise IndexDamaged(
            f"the catalogue at {path} has lost its recipe, and its vectors cannot be used without it",
            hint=WAYS_OUT,
        )
    settings = {"recipe": recipe, "recipe_digest": digest, "dimension": str(json.loads(recipe)["dimension"])}
    settings |= {key: found[key] for key in ("store", "weights") if key in found}
    last = found.get("last_segment", "0")
    return {**settings, "last_segment": last if last.isdecimal() and int(last) < SEGMENTS else "0"}


def _images(old: sqlite3.Connection, most: int) -> Iterator[Row]:
    """Yield the valid rows of the table of images that can be read; ids above `most` only if all can be read."""
    kinds, query = tuple(IMAGE.values()), f"select {COLUMNS} from images"
    try:
        rows = old.execute(f"{query} not indexed").fetchall()
    except (sqlite3.Error, ValueError, OverflowError):
        # With a query for each id SQLite skips a lost page where it can.
        rows = [row for id in range(1, most + 1) for row in _rows(old, f"{query} where id = {id}", kinds)]
    yield from (row for row in rows if all(map(_has_kind, row, kinds)) and _is_image(row))


def _rows(old: sqlite3.Connection, query: str, kinds: Kinds) -> list[Any]:
    """Return the rows of a query that have the right types, up to the first one that cannot be read."""
    found: list[Row] = []
    with suppress(sqlite3.Error, ValueError, OverflowError):
        found.extend(row for row in old.execute(query) if all(map(_has_kind, row, kinds)))
    return found


def _has_kind(value: Any, kind: type | tuple[type, ...]) -> bool:
    if isinstance(value, str):
        # Text that is not UTF-8 was read with surrogates, which imgindex never stores; and no file name has a NUL.
        return isinstance(value, kind) and re.search("[\0\ud800-\udfff]", value) is None
    return isinstance(value, kind)


def _is_image(row: Row) -> bool:
    path = os.fsencode(row[1])
    return bool(row[0] > 0 and path and b"\0" not in path and 0 < row[SEGMENT] < SEGMENTS and 0 <= row[ROW] < ROWS)


def _is_tag(row: Row) -> bool:
    return tags.is_tag(row[1])


def _is_value(row: Row) -> bool:
    sound = len(row[2]) <= tags.LONGEST_VALUE if isinstance(row[2], str) else math.isfinite(row[2])
    return sound and tags.is_key(row[1])


def _is_run(row: Row) -> bool:
    try:
        read_report(row[3])
    except (ValueError, RecursionError):
        return False
    return True
