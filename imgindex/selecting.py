"""Which images a condition speaks of: an SQL expression over a view of images, that can read nothing else.

A condition is first compiled on an empty database, where nothing exists but the columns of the view: whatever it names
there can only be one of them. Only then is it asked of the catalogue, where it still has no other names to use.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from imgindex.errors import UsageError
from imgindex.storage import tags
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.clusterings import labels_by_image
from imgindex.storage.store import Store

Ids = npt.NDArray[np.int64]

# Nothing that ends takes so many seconds; nor does any value of a row have so many bytes.
PATIENCE = 30.0
LONGEST = 16 << 20
# Steps of SQLite's machine between two looks at the clock, some tens of microseconds.
STEPS = 5000

# The columns of every index, in SQL over the table of images; names that begin with imgindex_ are functions of ours.
COLUMNS = {
    "id": "id",
    "path": "case typeof(path) when 'text' then path else imgindex_path(path) end",
    "name": "imgindex_name(path)",
    "folder": "imgindex_folder(path)",
    "extension": "imgindex_extension(path)",
    "width": "width",
    "height": "height",
    "pixels": "width * height",
    "aspect": "1.0 * width / height",
    "format": "format",
    "size": "size",
    "modified": "strftime('%Y-%m-%dT%H:%M:%S+00:00', mtime_ns / 1000000000, 'unixepoch')",
    "added_at": "added_at",
    "tags": "(select group_concat(tag, ',') from (select tag from main.tags where image = id order by tag))",
    "cluster": "imgindex_label(id)",
    "cluster_name": "imgindex_cluster_name(id)",
}
METADATA = "(select value from main.metadata where image = id and key = {})"
PREFIX = "metadata_"  # of a column of somebody's table that has the name of one of ours
# Functions that only compute something from values.
FUNCTIONS = frozenset([
    "abs", "avg", "coalesce", "count", "date", "datetime", "glob", "group_concat", "ifnull", "iif", "instr",
    "julianday", "length", "like", "lower", "ltrim", "match", "max", "min", "nullif", "round", "rtrim", "sign",
    "strftime", "substr", "substring", "sum", "time", "total", "trim", "typeof", "unicode", "unixepoch", "upper",
])  # fmt: skip
# What may hold a name in double quotes, and what only looks as if it did: texts, other names, comments.
QUOTED = re.compile(
    r"""'(?:[^']|'')*'|\[[^\]]*\]|`(?:[^`]|``)*`|--[^\n]*|/\*.*?(?:\*/|\Z)|"((?:[^"]|"")*)\"""", re.DOTALL
)
MARKS = re.compile(r'["`\[\]]')
# SQLite's codes for what is wrong with a statement, and not with the file: SQLITE_ERROR and SQLITE_TOOBIG.
OF_A_STATEMENT = (1, 18)


def select(store: Store, where: str | None) -> Ids | None:
    """Return the ids of the images that are shown and for which a condition holds, rising; None for no condition.

    where: an SQL expression over the columns that `columns` names. Within `store.reading()` it speaks of the state of
    the index that is read there.

    Raises UsageError, which names the columns, for what is no such expression or takes longer than PATIENCE.
    """
    if where is None:
        return None
    catalogue = store.catalogue
    with catalogue.snapshot():
        condition = _Condition(where, columns(catalogue))
        condition.check()
        found = labels_by_image(catalogue) if condition.mentions("cluster") else {}
        return condition.ask(catalogue.connection, found)


def columns(catalogue: Catalogue) -> dict[str, str]:
    """Return the columns that a condition may name, and what each is in SQL over the catalogue's tables.

    The keys of imported metadata follow those of every index; one with the same name as those has `metadata_` before.
    """
    known = dict(COLUMNS)
    if catalogue.version < tags.SINCE:
        return known | {"tags": "null"}
    taken = {_folded(name) for name in known}
    for key in tags.keys(catalogue):
        name = PREFIX + key if _folded(key) in COLUMNS else key
        if _folded(name) not in taken:
            taken.add(_folded(name))
            known[name] = METADATA.format(_quoted(key, "'"))
    return known


class _Condition:
    """A condition on the columns of a view (name → SQL)."""

    def __init__(self, text: str, view: dict[str, str]) -> None:
        self._text, self._view = text, view

    def mentions(self, column: str) -> bool:
        """Whether it may speak of a column, in quotes of whatever kind."""
        return MARKS.sub("", _folded(column)) in MARKS.sub("", _folded(self._text))

    def check(self) -> None:
        """Raise UsageError unless it is one expression over the view, by compiling it where there is nothing else."""
        names = {_folded(name) for name in self._view}
        for name in QUOTED.findall(self._text):
            # SQLite would take it for a text.
            if name and _folded(name.replace('""', '"')) not in names:
                raise self._wrong(f'no such column: "{name}"')
        nothing = ", ".join(f"null as {_quoted(name)}" for name in self._view)
        # What closes a parenthesis too many is no expression between two words, and the other way round.
        wholes = (f"where (\n{self._text}\n)", f"order by case when\n{self._text}\nthen 1 end")
        with contextlib.closing(sqlite3.connect(":memory:")) as empty, _functions(empty, {}):
            empty.set_authorizer(_allowed)
            for whole in wholes:
                try:
                    empty.execute(f"with images as (select {nothing} where 0) select id from images {whole}")
                except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
                    raise self._wrong(str(error)) from error

    def ask(self, connection: sqlite3.Connection, labels: Mapping[int, tuple[int, str | None]]) -> Ids:
        """Return the ids for which it holds; ends when that takes too long, or by Ctrl-C."""
        # What it does not speak of costs nothing.
        spoken = {"id": "id"} | {name: sql for name, sql in self._view.items() if self.mentions(name)}
        view = ", ".join(f"{sql} as {_quoted(name)}" for name, sql in spoken.items())
        query = f"""with images as (select {view} from main.images where present)
                    select id from images where (\n{self._text}\n) order by id"""
        deadline = time.monotonic() + PATIENCE
        with _interrupts() as seen, _functions(connection, labels), _short_values(connection):
            connection.set_progress_handler(lambda: bool(seen) or time.monotonic() > deadline, STEPS)
            try:
                return np.fromiter((id for (id,) in connection.execute(query)), dtype=np.int64)
            except (sqlite3.OperationalError, sqlite3.DataError) as error:
                if time.monotonic() > deadline:
                    raise self._wrong(f"it takes longer than {PATIENCE:g} seconds") from error
                if getattr(error, "sqlite_errorcode", OF_A_STATEMENT[0]) in OF_A_STATEMENT:
                    raise self._wrong(str(error)) from error
                raise
            finally:
                connection.set_progress_handler(None, 0)

    def _wrong(self, what: str) -> UsageError:
        names = [name if re.fullmatch(r"[A-Za-z_]\w*", name) else _quoted(name) for name in self._view]
        hint = f"text stands in single quotes; the columns are {', '.join(names)}"
        return UsageError(f"the condition {self._text!r} cannot be answered: {what}", hint=hint)


def _allowed(action: int, first: str | None, second: str | None, database: str | None, view: str | None) -> int:
    """SQLite's authorizer where nothing exists: what it reads there is the view, or what SQLite brings with it."""
    allowed = {
        sqlite3.SQLITE_SELECT: True,
        sqlite3.SQLITE_READ: first == "images",
        sqlite3.SQLITE_FUNCTION: second in FUNCTIONS,
    }
    return sqlite3.SQLITE_OK if allowed.get(action) else sqlite3.SQLITE_DENY


@contextlib.contextmanager
def _functions(connection: sqlite3.Connection, labels: Mapping[int, tuple[int, str | None]]) -> Iterator[None]:
    """Let a connection know the functions that the view and its conditions use, within the block."""
    functions: dict[str, Callable[..., Any]] = {
        "imgindex_path": _text,
        "imgindex_name": lambda path: _text(path).rpartition("/")[2],
        "imgindex_folder": lambda path: os.path.dirname(_text(path)) or ".",
        "imgindex_extension": lambda path: os.path.splitext(_text(path))[1][1:].lower(),
        "imgindex_label": lambda id: labels[id][0] if id in labels else None,
        "imgindex_cluster_name": lambda id: labels[id][1] if id in labels else None,
    }
    # What SQLite makes of `tags match 'cat'`.
    connection.create_function("match", 2, _has_tag)
    for name, function in functions.items():
        connection.create_function(name, 1, function)
    try:
        yield
    finally:
        connection.create_function("match", 2, None)
        for name in functions:
            connection.create_function(name, 1, None)


def _has_tag(tag: object, tags: object) -> bool | None:
    return tag in tags.split(",") if isinstance(tags, str) else None


def _text(path: str | bytes) -> str:
    """A path as JSON and tables show it: a byte that is not UTF-8 is \\udcXX."""
    return os.fsdecode(path).encode("utf-8", "backslashreplace").decode()


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Lend a list that is not empty after Ctrl-C, which does its work at the end of the block.

    In a function that SQLite calls an exception would be lost.
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
    """Let no value on a connection grow beyond LONGEST within the block, where Python can tell SQLite (from 3.11)."""
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
    """As SQLite compares names: without regard to case, but of A to Z alone."""
    return re.sub("[A-Z]+", lambda found: found[0].lower(), name)
