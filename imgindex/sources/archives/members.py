"""The members of the archives that this process has listed, in a temporary database that vanishes with the process."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

AT_ONCE = 500
CACHE_KIB = 8 << 10
TWICE = "the archive has two members of this name"
OVERLAPS = "it shares bytes with another member, or lies beyond the members"
# Deflate packs at most 1,032:1. What unpacks to more bytes than both is a bomb.
LARGE, RATIO = 64 << 20, 1000
TOO_MUCH = f"it unpacks to more than {RATIO:,} times its size"


class ArchiveDamaged(Exception):
    """An archive cannot be listed to its end, with the reason."""


class ListGone(ArchiveDamaged):
    """The list was deleted, because its archive has changed meanwhile."""

    def __init__(self) -> None:
        super().__init__("the archive changed while it was read")


class Member(NamedTuple):
    """A member of an archive.

    path: below the archive. size: bytes of its content. version: see `FoundFile`. offset: of its header in a zip, of
    its content in the unpacked tar. packed, method: the bytes that it has in a zip, and how they are compressed.
    raw_name: as the header in a zip has it. problem: why it cannot be read, else "". data: its content, or the
    beginning, where it was kept.
    """

    path: str
    size: int
    mtime_ns: int
    version: str
    offset: int
    packed: int = 0
    method: int = 0
    raw_name: bytes = b""
    problem: str = ""
    data: bytes | None = None


class Members:
    """Lists of members; memory does not grow with their number. Any thread may call the methods.

    What asks for a list that was deleted raises ListGone.
    """

    def __init__(self) -> None:
        # With an empty name SQLite keeps what fits in its cache, and spills the rest to an unlinked file.
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._connection.close)
        self._lock = threading.Lock()
        for pragma in ("journal_mode = off", f"cache_size = -{CACHE_KIB}"):
            self._connection.execute(f"pragma {pragma}")
        self._lists = 0

    def new_list(self) -> int:
        """Return the number of a new, empty list."""
        with self._lock:
            self._lists += 1
            self._connection.execute(
                f"""create table list_{self._lists} (number integer primary key, path blob unique, size integer,
                    mtime_ns integer, version text, offset integer, packed integer, method integer, raw_name blob,
                    problem text, data blob)"""
            )
            return self._lists

    def extend(self, list_: int, members: Iterable[Member]) -> None:
        """Append members to a list; a second one with a path makes the first one unreadable."""
        query = f"""insert into list_{list_:d} values (null, ?,?,?,?,?,?,?,?,?,?)
                    on conflict (path) do update set problem = '{TWICE}'"""
        iterator = iter(members)
        while rows := [(os.fsencode(one.path), *one[1:]) for one in islice(iterator, AT_ONCE)]:
            with self._lock:
                self._connection.execute("begin")
                self._connection.executemany(query, rows)
                self._connection.execute("commit")

    def delete(self, list_: int) -> None:
        """Delete a list."""
        self._ask(f"drop table list_{list_:d}", ())

    def each(self, list_: int) -> Iterator[Member]:
        """Yield the members of a list in the order of insertion."""
        last = -1
        query = f"select * from list_{list_:d} where number > ? order by number limit {AT_ONCE}"
        while rows := self._ask(query, (last,)):
            yield from map(_member, rows)
            last = rows[-1][0]

    def find(self, list_: int, path: str) -> tuple[int, Member] | None:
        """Return a member with its number, which no other one of the list has."""
        rows = self._ask(f"select * from list_{list_:d} where path = ?", (os.fsencode(path),))
        return (rows[0][0], _member(rows[0])) if rows else None

    def known(self, list_: int, paths: Sequence[str]) -> set[str]:
        """Return those of at most AT_ONCE paths that are in a list."""
        query = f"select path from list_{list_:d} where path in ({','.join('?' * len(paths))})"
        return {os.fsdecode(path) for (path,) in self._ask(query, list(map(os.fsencode, paths)))}

    def has_folder(self, list_: int, folder: str) -> bool:
        """Return whether any member lies below a folder."""
        start = os.fsencode(folder)
        query = f"select 1 from list_{list_:d} where path > ? and path < ? limit 1"
        return bool(self._ask(query, (start + b"/", start + b"0")))

    def mark_overlaps(self, list_: int, end: int) -> None:
        """Give a problem to all members of a zip that share bytes with another one, or lie beyond `end`."""
        holder, reach = -1, -1
        last = (-1, -1)
        query = f"""select offset, number, offset + 30 + length(raw_name) + packed from list_{list_:d}
                    where (offset, number) > (?, ?) order by offset, number limit {AT_ONCE}"""
        self._ask(f"create index by_offset_{list_:d} on list_{list_:d} (offset, number)", ())
        while rows := self._ask(query, last):
            wrong: set[int] = set()
            for offset, number, stop in rows:
                if offset < reach:
                    wrong |= {number, holder}
                if stop > end:
                    wrong.add(number)
                if stop > reach:
                    holder, reach = number, stop
            last = rows[-1][:2]
            with self._lock:
                update = f"update list_{list_:d} set problem = '{OVERLAPS}' where number = ?"
                self._connection.executemany(update, [(number,) for number in wrong])

    def _ask(self, query: str, values: Sequence[Any]) -> list[Any]:
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    raise ListGone from error
                raise


def _member(row: tuple[Any, ...]) -> Member:
    return Member(os.fsdecode(row[1]), *row[2:])
