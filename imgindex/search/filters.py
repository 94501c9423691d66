"""Selects images by a condition: an SQL expression over a view of images, which can read nothing else.

A condition is first compiled on an empty database, where nothing exists but the columns of the view: every name in it
must be one of them. Only then does it run on the catalogue, where it cannot use other names either.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from imgindex.errors import UsageError
from imgindex.storage import tags
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.clusterings import labels_by_image
from imgindex.storage.connection import Connection, RaisingIndexDamaged
from imgindex.storage.paths import nfc
from imgindex.storage.store import Store
from imgindex.types import Ids, Image

# The limit of a condition: the bytes that a value may have.
LONGEST = 16 << 20
# Steps of SQLite's virtual machine between two looks at the clock: some tens of microseconds.
STEPS = 5000

# A path that is not UTF-8 is stored as a blob. SQLite finds a path in its index only where the column is used as it is.
PATH_AS_TEXT = "case typeof(path) when 'text' then path else imgindex_path(path) end"
# Blobs come after all texts.
HAS_BLOBS = "select typeof(max(path)) = 'blob' from main.images"
# The columns of every index, in SQL over the table of images; the functions imgindex_… are defined below.
COLUMNS = {
    "id": "id",
    "path": PATH_AS_TEXT,
    "name": "imgindex_name(path)",
    "folder": "imgindex_folder(path)",
    "extension": "imgindex_extension(path)",
    "width": "width",
    "height": "height",
    "pixels": "width * height",
    "aspect": "1.0 * width / height",
    "format": "format",
    "size": "size",
    # SQLite's division rounds towards zero, which is the next second for times before 1970.
    "modified": "strftime('%Y-%m-%dT%H:%M:%S+00:00', mtime_ns / 1000000000 - (mtime_ns % 1000000000 < 0), 'unixepoch')",
    "added_at": "added_at",
    "tags": "(select group_concat(tag, ',') from (select tag from main.tags where image = id order by tag))",
    "cluster": "imgindex_label(id)",
    "cluster_name": "imgindex_cluster_name(id)",
}
METADATA = "(select value from main.metadata where image = id and key = {})"
PREFIX = "metadata_"  # of an imported column whose name is that of a column of every index
# What images are sorted by, in SQL over the catalogue's table of images.
ORDERS = {
    "id": "id",
    "path": "path",
    "size": "size",
    "modified": "mtime_ns",
    "added_at": "added_at",
    "width": "width",
    "height": "height",
    "pixels": "width * height",
}
# Functions that only compute something from values.
FUNCTIONS = frozenset([
    "abs", "avg", "coalesce", "count", "date", "datetime", "glob", "group_concat", "ifnull", "iif", "instr",
    "julianday", "length", "like", "lower", "ltrim", "match", "max", "min", "nullif", "round", "rtrim", "sign",
    "strftime", "substr", "substring", "sum", "time", "total", "trim", "typeof", "unicode", "unixepoch", "upper",
])  # fmt: skip
# Finds names in double quotes, past what may contain double quotes itself: texts, other names and comments.
QUOTED = re.compile(
    r"""'(?:[^']|'')*'|\[[^\]]*\]|`(?:[^`]|``)*`|--[^\n]*|/\*.*?(?:\*/|\Z)|"((?:[^"]|"")*)\"""", re.DOTALL
)
MARKS = re.compile(r'["`\[\]]')
# Finds the operator `match` after the column of tags, and passes over texts and comments.
MATCH_OF_TAGS = re.compile(
    r"""'(?:[^']|'')*'|--[^\n]*|/\*.*?(?:\*/|\Z)|(\btags["`\]]?[)\s]*\s(?:not\s+)?)match\b""", re.DOTALL | re.IGNORECASE
)
# SQLite's codes for errors of a statement, rather than of the file: SQLITE_ERROR and SQLITE_TOOBIG.
OF_A_STATEMENT = (1, 18)


def images(store: Store, where: str | None, only: Sequence[int] | None = None) -> Iterator[Image]:
    """Yield the images in the order of ids, with their tags and metadata: all, or those that fulfil a condition.

    only: ids; images of others are left out, and these come in the order of `only`.
    Raises UsageError for an invalid condition.
    """
    return store.each(lambda: _images(store, where, only), with_vectors=False)


def _images(store: Store, where: str | None, only: Sequence[int] | None) -> Iterator[Image]:
    catalogue = store.catalogue
    ids = select(store, where)
    fulfil = None if ids is None else frozenset(ids.tolist())
    tagged, described = tags.tags_by_image(catalogue, only), tags.metadata_by_image(catalogue, only)
    for image in catalogue.images(only):
        if fulfil is None or image.id in fulfil:
            yield replace(image, tags=tagged.get(image.id, ()), metadata=described.get(image.id, {}))


def sorted_ids(store: Store, where: str | None, order: str) -> Ids:
    """Return the ids of the present images that fulfil a condition, in an order.

    order: a key of ORDERS; with "-" before it from the greatest to the least; equal ones in the order of ids.
    Raises UsageError.
    """
    name = order.removeprefix("-")
    if name not in ORDERS:
        raise UsageError(
            f"images cannot be sorted by {order!r}", hint=f"choose {', '.join(ORDERS)}, or -size and so on"
        )
    with store.catalogue.snapshot():
        ids = select(store, where)
        if name == "id":
            found: Ids = store.location_table()[:, 0].copy() if ids is None else ids
            return found[::-1] if order.startswith("-") else found
        direction = "desc" if order.startswith("-") else "asc"
        query = f"select id from images where present order by {ORDERS[name]} {direction}, id"
        every = np.fromiter((id for (id,) in store.catalogue.connection.execute(query)), dtype=np.int64)
        return every if ids is None else every[np.isin(every, ids)]


def select(store: Store, where: str | None) -> Ids | None:
    """Return the ids of the present images that fulfil a condition, rising; None where there is no condition.

    where: an SQL expression over the columns that `columns` returns. Within `store.reading()` it is evaluated on the
    state of the index that is read there.

    Raises UsageError, whose hint lists the columns, for an invalid expression, or one that takes longer than
    `store.condition_seconds`.
    """
    if where is None:
        return None
    catalogue = store.catalogue
    with catalogue.snapshot():
        condition = _Condition(where, columns(catalogue))
        condition.check()
        found = labels_by_image(catalogue) if condition.mentions("cluster") else {}
        return condition.ask(catalogue.connection, found, store.condition_seconds)


def columns(catalogue: Catalogue) -> dict[str, str]:
    """Return the columns that a condition may name, and what each is in SQL over the catalogue's tables.

    The columns of imported tables follow those of every index, with `metadata_` before a name that both have.
    """
    known = dict(COLUMNS)
    if not catalogue.connection.execute(HAS_BLOBS).fetchone()[0]:
        known["path"] = "path"
    if catalogue.version < tags.SINCE:
        return known | {"tags": "null"}
    taken = {_folded(name) for name in known}
    for key in tags.metadata_keys(catalogue):
        name = nfc(PREFIX + key if _folded(key) in COLUMNS else key)
        if _folded(name) not in taken:
            taken.add(_folded(name))
            known[name] = METADATA.format(_quoted(key, "'"))
    return known


class _Condition:
    """A condition on the columns of a view (name → SQL)."""

    def __init__(self, text: str, view: dict[str, str]) -> None:
        # Accents are compared as they look: files of a Mac have them as characters of their own.
        self._text, self._view = nfc(text), view

    def mentions(self, column: str) -> bool:
        """Return whether the condition may use a column, quoted or not."""
        return MARKS.sub("", _folded(column)) in MARKS.sub("", _folded(self._text))

    def check(self) -> None:
        """Raise UsageError unless the condition, compiled where nothing else exists, is an expression over the view."""
        if not self._text.strip():
            raise self._wrong("it is empty")
        names = {_folded(name) for name in self._view}
        for name in QUOTED.findall(self._text):
            # SQLite would take an unknown name in double quotes for a text.
            if name and _folded(name.replace('""', '"')) not in names:
                raise self._wrong(f'no such column: "{name}"')
        empty_view = ", ".join(f"null as {_quoted(name)}" for name in self._view)
        # Two forms, between parentheses and between words: an expression with unbalanced parentheses fails in one.
        queries = (f"where (\n{self._text}\n)", f"order by case when\n{self._text}\nthen 1 end")
        with contextlib.closing(sqlite3.connect(":memory:")) as empty, _functions(empty, {}):
            empty.set_authorizer(_allowed)
            for query in queries:
                try:
                    empty.execute(f"with images as (select {empty_view} where 0) select id from images {query}")
                except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
                    raise self._wrong(str(error)) from error

    def ask(self, connection: Connection, labels: Mapping[int, tuple[int, str | None]], seconds: float) -> Ids:
        """Return the ids of the images that fulfil the condition. Raises UsageError when that takes too long."""
        # Columns that the condition does not use cost nothing.
        used = {"id": "id"} | {name: sql for name, sql in self._view.items() if self.mentions(name)}
        form = "{}" if self._text.isascii() else "imgindex_nfc({})"
        view = ", ".join(f"{form.format(sql)} as {_quoted(name)}" for name, sql in used.items())
        query = f"""with images as (select {view} from main.images where present)
                    select id from images where (\n{_of_tags(self._text)}\n) order by id"""
        deadline = time.monotonic() + seconds
        closed = RaisingIndexDamaged(connection.path)  # another thread may close the index
        functions = _functions(connection, labels)
        with _interrupts() as interrupts, closed, connection.lock, functions, _short_values(connection):
            connection.set_progress_handler(lambda: bool(interrupts) or time.monotonic() > deadline, STEPS)
            try:
                return np.fromiter((id for (id,) in connection.execute(query)), dtype=np.int64)
            except (sqlite3.OperationalError, sqlite3.DataError) as error:
                if time.monotonic() > deadline:
                    raise self._wrong(f"it takes longer than {seconds:g} seconds") from error
                if getattr(error, "sqlite_errorcode", OF_A_STATEMENT[0]) in OF_A_STATEMENT:
                    raise self._wrong(str(error)) from error
                raise
            finally:
                connection.set_progress_handler(None, 0)

    def _wrong(self, what: str) -> UsageError:
        names = [name if re.fullmatch(r"[A-Za-z_]\w*", name) else _quoted(name) for name in self._view]
        hint = f"put text in single quotes; the columns are {', '.join(names)}"
        return UsageError(f"cannot evaluate the condition {self._text!r}: {what}", hint=hint)


def _allowed(action: int, first: str | None, second: str | None, database: str | None, view: str | None) -> int:
    """Authorize what a condition may do on the empty database: read the view, and call functions of values."""
    allowed = {
        sqlite3.SQLITE_SELECT: True,
        sqlite3.SQLITE_READ: first == "images",
        sqlite3.SQLITE_FUNCTION: second in FUNCTIONS,
    }
    return sqlite3.SQLITE_OK if allowed.get(action) else sqlite3.SQLITE_DENY


@contextlib.contextmanager
def _functions(connection: sqlite3.Connection, labels: Mapping[int, tuple[int, str | None]]) -> Iterator[None]:
    """Define the functions that the view and its conditions use on a connection, within the block."""
    functions: dict[str, Callable[..., Any]] = {
        "imgindex_nfc": lambda value: nfc(value) if isinstance(value, str) else value,
        "imgindex_path": _text,
        "imgindex_name": lambda path: _text(path).rpartition("/")[2],
        "imgindex_folder": lambda path: os.path.dirname(_text(path)) or ".",
        "imgindex_extension": lambda path: os.path.splitext(_text(path))[1][1:].lower(),
        "imgindex_label": lambda id: labels[id][0] if id in labels else None,
        "imgindex_cluster_name": lambda id: labels[id][1] if id in labels else None,
    }
    # SQLite turns `caption match 'cat'` into match('cat', caption), and the same with regexp.
    connection.create_function("match", 2, _has_words)
    connection.create_function("regexp", 2, _has_tag)
    for name, function in functions.items():
        connection.create_function(name, 1, function)
    try:
        yield
    finally:
        connection.create_function("match", 2, None)
        connection.create_function("regexp", 2, None)
        for name in functions:
            connection.create_function(name, 1, None)


def _of_tags(condition: str) -> str:
    """Return a condition in which `match` after the column of tags is `regexp`, which programs define too.

    A function of SQLite sees values, and does not know which column they come from.
    """
    return MATCH_OF_TAGS.sub(lambda found: f"{found[1]}regexp" if found[1] else found[0], condition)


def _has_tag(tag: object, tags: object) -> bool | None:
    return tag in tags.split(",") if isinstance(tags, str) else None


def _has_words(words: object, text: object) -> bool | None:
    """Return whether these words stand in a text one after the other; case does not matter. Null is in no text."""
    if words is None or text is None:
        return None
    if not str(words).strip():
        return False
    return _words(str(words)).search(str(text).casefold()) is not None


@lru_cache(maxsize=64)
def _words(words: str) -> re.Pattern[str]:
    """Return a pattern that finds words in text without capitals."""
    return re.compile(r"(?<!\w)" + r"\W+".join(map(re.escape, words.casefold().split())) + r"(?!\w)")


def _text(path: str | bytes) -> str:
    """Return a path as JSON and tables show it: a byte that is not UTF-8 is \\udcXX."""
    return os.fsdecode(path).encode("utf-8", "backslashreplace").decode()


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Yield a list that Ctrl-C appends to within the block; the handler of Ctrl-C runs at the end of the block.

    An exception raised in a function that SQLite calls would be lost.
    """
    seen: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield seen
        return
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)
        if seen:
            before(signal.SIGINT, None)


@contextlib.contextmanager
def _short_values(connection: Any) -> Iterator[None]:
    """Limit the values on a connection to LONGEST bytes within the block, where Python can set that (from 3.11)."""
    if not hasattr(connection, "setlimit"):
        yield
        return
    before = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)  # type: ignore[attr-defined,unused-ignore]
    try:
        yield
    finally:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)  # type: ignore[attr-defined,unused-ignore]


def _quoted(name: str, mark: str = '"') -> str:
    return mark + name.replace(mark, mark * 2) + mark


def _folded(name: str) -> str:
    """Return a name in the form by which SQLite compares names: without case, but only for A to Z."""
    return re.sub("[A-Z]+", lambda found: found[0].lower(), name)
