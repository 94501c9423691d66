"""The part of the catalogue that records what was done: failures, the roots that were added, and runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Any

from imgindex.errors import IndexDamaged
from imgindex.storage.connection import PATH, Connection
from imgindex.storage.paths import PathMap, StoredPath
from imgindex.storage.records import stored_stat
from imgindex.types import Failure


class Ledger:
    """Reads and writes the failures, roots and runs of one catalogue, within the caller's transaction."""

    def __init__(self, connection: Connection, paths: PathMap) -> None:
        self.connection, self.paths = connection, paths

    def failures(self) -> Iterator[Failure]:
        """Yield the failures in the order of paths."""
        query = "select path, stage, reason, size, mtime_ns, tried_at from failures order by path"
        for path, *rest in self.connection.rows((PATH, str, str, int, int, str), query):
            yield Failure(self.paths.absolute(path), *rest)

    def fail(self, failure: Failure) -> None:
        """Record a failure, and mark an image at its path as missing: the content of the file has changed."""
        stored = self.paths.stored(failure.path)
        values = (stored, *stored_stat(failure), failure.stage, failure.reason, timestamp())
        self.connection.execute(
            "insert or replace into failures (path, size, mtime_ns, stage, reason, tried_at) values (?,?,?,?,?,?)",
            values,
        )
        self.connection.execute("update images set present = 0 where path = ?", (stored,))

    def forget(self, paths: Iterable[str]) -> None:
        """Delete the failures at these absolute paths."""
        for path in paths:
            self.clear(self.paths.stored(path))

    def clear(self, stored: StoredPath) -> None:
        """Delete the failure at a stored path, if there is one."""
        self.connection.execute("delete from failures where path = ?", (stored,))

    def roots(self) -> list[str]:
        rows = self.connection.rows((PATH,), "select path from roots order by path")
        return [self.paths.absolute(path) for (path,) in rows]

    def add_roots(self, mounts: dict[str, str | None]) -> None:
        """Record roots: absolute path → the mount point of its disk, or None if it is on the same disk as the index."""
        query = """insert into roots (path, added_at, mount) values (?, ?, ?)
                   on conflict (path) do update set mount = excluded.mount"""
        stored = self.paths.stored
        rows = ((stored(path), timestamp(), mount and stored(mount)) for path, mount in mounts.items())
        self.connection.executemany(query, rows)

    def mounts(self) -> dict[str, str]:
        """Return root → mount point of its disk when it was last added, for roots on other disks than the index."""
        if not self._has_mounts():
            return {}
        query = "select path, mount from roots where mount is not null"
        absolute = self.paths.absolute
        return {absolute(path): absolute(mount) for path, mount in self.connection.rows((PATH, PATH), query)}

    def _has_mounts(self) -> bool:
        version: int = self.connection.execute("pragma user_version").fetchone()[0]
        return version >= 2

    def record_run(self, command: str, started_at: str, seconds: float, report: dict[str, Any]) -> None:
        values = (command, started_at, seconds, json.dumps(report))
        self.connection.execute("insert into runs (command, started_at, seconds, report) values (?,?,?,?)", values)

    def runs(self, n: int) -> list[dict[str, Any]]:
        """Return the last n runs, the newest first. Raises IndexDamaged."""
        query = "select command, started_at, seconds, report from runs order by id desc limit ?"
        runs = []
        for command, at, seconds, report in self.connection.rows((str, str, (int, float), str), query, (n,)):
            try:
                runs.append({"command": command, "started_at": at, "seconds": seconds, **read_report(report)})
            except (ValueError, RecursionError) as error:
                raise IndexDamaged(f"{self.connection.path} is damaged: a run's report is {report[:80]!r}") from error
        return runs


def read_report(text: str) -> dict[str, Any]:
    """Return the report of a run. Raises ValueError or RecursionError for anything but a JSON object."""
    import msgspec

    # Not msgspec's own parser: it rejects paths that are not UTF-8, which json.dumps wrote as lone surrogates.
    return msgspec.convert(json.loads(text), dict[str, Any])


def timestamp() -> str:
    """Return the time now in UTC, in ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
