"""Saves what can be saved of a damaged catalogue: a new one, in which no image is shown before its file has been seen.

SQLite cannot tell which row of a damaged file is right. So every image is kept hidden, with a time that no file has:
whoever sees a file of the same content at its path may show it again, and `add` opens it before it believes anything.
The ledger of failures is not kept: nobody could tell a wrong path or reason in it, and `add` finds them all again.
Tags and metadata are kept where they make sense: a wrong one cannot be told either, but nobody could find them again.
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
from urllib.request import pathname2url

from imgindex.errors import FormatTooNew, IndexDamaged
from imgindex.storage import checksum, clusterings, durable, tags
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.paths import PathMap
from imgindex.storage.segments import DTYPES
from imgindex.storage.store import CATALOGUE, check_integrity, fill_catalogue

# No row is so short: a file of so many bytes that cannot be read from end to end has no more ids to ask for.
ROW_SIZE = 64
# No index has more segments of a gigabyte, or more rows in one.
SEGMENTS, ROWS = 10**6, 2**30
WAYS_OUT = f"put {CATALOGUE} back from a copy, or move the index away and add the images again"
# What no file has: it makes an image look changed.
NEVER = -1

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
    """Return what is wrong with the catalogue of the index at `path`, empty when nothing is. Raises FormatTooNew."""
    database = os.path.join(path, CATALOGUE)
    try:
        with closing(Catalogue(database, PathMap(path))) as catalogue:
            checksum.check(database)
            check_integrity(catalogue)
    except FormatTooNew:
        raise
    except (IndexDamaged, sqlite3.Error) as error:
        return str(error)
    return ""


def salvage(path: str) -> int:
    """Put a new catalogue in the place of a damaged one, and return how many images it saved; the caller has the lock.

    Raises IndexDamaged, and changes nothing, when nobody could tell what the vectors are, or whose.
    """
    database = os.path.join(path, CATALOGUE)
    # What the log holds goes into the damaged file: the log of one catalogue must never be taken for another's.
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
        tables = {table: _rows(old, f"select {columns} from {table}", kinds) for table, columns, kinds in SAID}
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
        # Until the rows are gone whose clustering or image could not be read.
        new.connection.execute("pragma defer_foreign_keys = on")
        run(f"insert or ignore into images ({COLUMNS}) values ({', '.join('?' * len(IMAGE))})", images.values())
        run("update images set present = 0, mtime_ns = ?", [(NEVER,)])
        # Only of images that came through.
        there = "where exists (select 1 from images where id = ?1)"
        run(f"insert or ignore into tags select ?1, ?2 {there}", filter(_is_tag, tagged))
        run(f"insert or ignore into metadata select ?1, ?2, ?3 {there}", filter(_is_value, described))
        run("insert or ignore into roots (path, added_at) values (?, ?)", roots)
        run("insert into runs (command, started_at, seconds, report) values (?, ?, ?, ?)", filter(_is_run, runs))
        for table, columns, kinds in SAID:
            marks = ", ".join("?" * len(kinds))
            run(f"insert or ignore into {table} ({columns}) values ({marks})", tables[table])
        clusterings.drop_senseless(new)
        run("delete from sqlite_sequence where name = ?", [("images",)])
        run("insert into sqlite_sequence values (?, ?)", [("images", last)])

    fill_catalogue(path, settings, fill)
    return len(images)


# What people and earlier runs said of images: table, columns, kinds. A clustering comes before what belongs to it.
SAID: tuple[tuple[str, str, Kinds], ...] = (
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
    address = "file:" + pathname2url(os.path.abspath(database)) + "?mode=ro"
    connection = sqlite3.connect(address, uri=True, isolation_level=None)
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    connection.execute("pragma trusted_schema = off")
    # Definitions that cannot be understood are then passed over, and the other tables can be read.
    connection.execute("pragma writable_schema = on")
    return connection


def _settings(old: sqlite3.Connection, path: str) -> dict[str, str]:
    found: dict[str, str] = dict(_rows(old, "select key, value from settings", (str, str)))
    recipe, digest = found.get("recipe", ""), found.get("recipe_digest", "")
    # The recipe has a digest, and every segment has it too: what fits together is right.
    if hashlib.sha256(recipe.encode()).hexdigest() != digest or found.get("store") not in DTYPES:
        raise IndexDamaged(
            f"the catalogue at {path} has lost its recipe, and without it nobody can tell what its vectors are",
            hint=WAYS_OUT,
        )
    settings = {"recipe": recipe, "recipe_digest": digest, "dimension": str(json.loads(recipe)["dimension"])}
    settings |= {key: found[key] for key in ("store", "weights") if key in found}
    last = found.get("last_segment", "0")
    return {**settings, "last_segment": last if last.isdecimal() and int(last) < SEGMENTS else "0"}


def _images(old: sqlite3.Connection, most: int) -> Iterator[Row]:
    """Every row of the table of images that can be read and makes sense; ids above `most` only if all can be read."""
    kinds, query = tuple(IMAGE.values()), f"select {COLUMNS} from images"
    try:
        rows = old.execute(f"{query} not indexed").fetchall()
    except (sqlite3.Error, ValueError, OverflowError):
        # By its id each row is found for itself, and SQLite goes around a lost page where it can.
        rows = [row for id in range(1, most + 1) for row in _rows(old, f"{query} where id = {id}", kinds)]
    yield from (row for row in rows if all(map(_has_kind, row, kinds)) and _is_image(row))


def _rows(old: sqlite3.Connection, query: str, kinds: Kinds) -> list[Any]:
    """The rows of a query that have the right types, up to the first that cannot be read."""
    found: list[Row] = []
    with suppress(sqlite3.Error, ValueError, OverflowError):
        found.extend(row for row in old.execute(query) if all(map(_has_kind, row, kinds)))
    return found


def _has_kind(value: Any, kind: type | tuple[type, ...]) -> bool:
    if isinstance(value, str):
        # A text that is not UTF-8 came out with surrogates, and none of ours has any; and no file's name has a NUL.
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
        return isinstance(json.loads(row[3]), dict)
    except (ValueError, RecursionError):
        return False
