"""The catalogue's journal of what was done: the ledger of failures, the roots that were added, the runs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Any

from imgindex.storage.paths import PathMap, StoredPath
from imgindex.types import Failure


class Journal:
    """What one catalogue knows of failures, roots and runs; writes within the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection, paths: PathMap) -> None:
        self.connection, self.paths = connection, paths

    def failures(self) -> Iterator[Failure]:
        """Yield the failures in the order of paths."""
        query = "select path, stage, reason, size, mtime_ns, tried_at from failures order by path"
        for path, *rest in self.connection.execute(query):
            yield Failure(self.paths.absolute(path), *rest)

    def fail(self, failure: Failure) -> None:
        """Enter a failure, and hide the image if its path is a known one: its content has changed."""
        stored = self.paths.stored(failure.path)
        values = (stored, failure.size, failure.mtime_ns, failure.stage, failure.reason, timestamp())
        self.connection.execute("insert or replace into failures values (?,?,?,?,?,?)", values)
        self.connection.execute("update images set present = 0 where path = ?", (stored,))

    def forget(self, paths: Iterable[str]) -> None:
        """Strike out the failures at these absolute paths."""
        for path in paths:
            self.settle(self.paths.stored(path))

    def settle(self, stored: StoredPath) -> None:
        """Strike out the failure at a stored path: an image is there now."""
        self.connection.execute("delete from failures where path = ?", (stored,))

    def roots(self) -> list[str]:
        return [self.paths.absolute(row[0]) for row in self.connection.execute("select path from roots order by path")]

    def add_roots(self, devices: dict[str, int]) -> None:
        """Record roots by absolute path, each with the number of the file system that it is on."""
        query = """insert into roots (path, added_at, device) values (?, ?, ?)
                   on conflict (path) do update set device = excluded.device"""
        rows = ((self.paths.stored(path), timestamp(), _signed(device)) for path, device in devices.items())
        self.connection.executemany(query, rows)

    def devices(self) -> dict[str, int]:
        """Return root → number of the file system that it was on when it was last added, where that is known."""
        query = "select path, device from roots where device is not null"
        return {self.paths.absolute(path): device % 2**64 for path, device in self.connection.execute(query)}

    def record_run(self, command: str, started_at: str, seconds: float, report: dict[str, Any]) -> None:
        values = (command, started_at, seconds, json.dumps(report))
        self.connection.execute("insert into runs (command, started_at, seconds, report) values (?,?,?,?)", values)

    def runs(self, n: int) -> list[dict[str, Any]]:
        """Return the last n runs, the newest first."""
        query = "select command, started_at, seconds, report from runs order by id desc limit ?"
        rows = self.connection.execute(query, (n,))
        return [{"command": c, "started_at": at, "seconds": s, **json.loads(report)} for c, at, s, report in rows]


def timestamp() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _signed(number: int) -> int:
    """A device number as SQLite can hold it: 64 bits with a sign."""
    number %= 2**64
    return number - 2**64 if number >= 2**63 else number
