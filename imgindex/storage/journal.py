"""The catalogue's journal of what was done: the ledger of failures, the roots that were added, the runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Any

from imgindex.errors import IndexDamaged
from imgindex.storage.connection import PATH, Connection
from imgindex.storage.paths import PathMap, StoredPath
from imgindex.types import Failure


class Journal:
    """What one catalogue knows of failures, roots and runs; writes within the caller's transaction."""

    def __init__(self, connection: Connection, paths: PathMap) -> None:
        self.connection, self.paths = connection, paths

    def failures(self) -> Iterator[Failure]:
        """Yield the failures in the order of paths."""
        query = "select path, stage, reason, size, mtime_ns, tried_at from failures order by path"
        for path, *rest in self.connection.rows((PATH, str, str, int, int, str), query):
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
        rows = self.connection.rows((PATH,), "select path from roots order by path")
        return [self.paths.absolute(path) for (path,) in rows]

    def add_roots(self, mounts: dict[str, str | None]) -> None:
        """Record roots by absolute path, each with the mount point of its disk if that is not the index's own."""
        query = """insert into roots (path, added_at, mount) values (?, ?, ?)
                   on conflict (path) do update set mount = excluded.mount"""
        stored = self.paths.stored
        rows = ((stored(path), timestamp(), mount and stored(mount)) for path, mount in mounts.items())
        self.connection.executemany(query, rows)

    def mounts(self) -> dict[str, str]:
        """Return root → where its disk was mounted when it was last added, for roots on other disks than the index."""
        if not self._knows_mounts():
            return {}
        query = "select path, mount from roots where mount is not null"
        absolute = self.paths.absolute
        return {absolute(path): absolute(mount) for path, mount in self.connection.rows((PATH, PATH), query)}

    def _knows_mounts(self) -> bool:
        version: int = self.connection.execute("pragma user_version").fetchone()[0]
        return version >= 2

    def record_run(self, command: str, started_at: str, seconds: float, report: dict[str, Any]) -> None:
        values = (command, started_at, seconds, json.dumps(report))
        self.connection.execute("insert into runs (command, started_at, seconds, report) values (?,?,?,?)", values)

    def runs(self, n: int) -> list[dict[str, Any]]:
        """Return the last n runs, the newest first."""
        query = "select command, started_at, seconds, report from runs order by id desc limit ?"
        runs = []
        for command, at, seconds, report in self.connection.rows((str, str, (int, float), str), query, (n,)):
            try:
                runs.append({"command": command, "started_at": at, "seconds": seconds, **json.loads(report)})
            except (ValueError, TypeError, RecursionError) as error:
                raise IndexDamaged(f"{self.connection.path} is damaged: a run's report is {report[:80]!r}") from error
        return runs


def timestamp() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
