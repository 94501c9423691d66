"""The files that one `add` has to open, kept on disk: a first run over a million images needs no more memory."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator

from imgindex.storage.records import stored_stat
from imgindex.types import FoundFile


class WorkList:
    """A list of files in the order of insertion, in a temporary database that vanishes with the process."""

    def __init__(self) -> None:
        # With an empty name SQLite keeps what fits in its cache, and spills the rest to an unlinked file.
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute("pragma journal_mode = off")
        self._connection.execute(
            "create table files (path blob, size integer, mtime_ns integer, ctime_ns integer, inode integer, "
            "version text)"
        )
        self._length = 0

    def extend(self, files: Iterable[FoundFile]) -> None:
        rows = [(os.fsencode(file.path), *stored_stat(file)) for file in files]
        self._connection.executemany("insert into files values (?, ?, ?, ?, ?, ?)", rows)
        self._length += len(rows)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[FoundFile]:
        for path, *numbers in self._connection.execute("select * from files order by rowid"):
            yield FoundFile(os.fsdecode(path), *numbers)

    def close(self) -> None:
        self._connection.close()
