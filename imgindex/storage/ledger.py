"""The part of the catalogue that records what was done: failures, the roots that were added, and runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

from imgindex.errors import IndexDamaged
from imgindex.storage.connection import PATH, Connection
from imgindex.storage.paths import PathMap, StoredPath
from imgindex.storage.records import is_same_stat, stored_stat
from imgindex.types import Failure, FoundFile

# The first formats of catalogues with these tables and columns: a reader does not migrate an older one.
MOUNTS_SINCE, DECODER_SINCE, OTHER_FILES_SINCE, VERSIONS_SINCE = 2, 4, 4, 5
FILES_PER_QUERY = 500  # below the limit on variables of every SQLite
NUMBER, VERSION = (int, type(None)), (str, type(None))


class Ledger:
    """Reads and writes the failures, roots and runs of one catalogue, within the caller's transaction."""

    def __init__(self, connection: Connection, paths: PathMap) -> None:
        self.connection, self.paths = connection, paths

    def failures(self) -> Iterator[Failure]:
        """Yield the failures in the order of paths."""
        columns = "coalesce(decoder, ''), ctime_ns, inode" if self._version() >= DECODER_SINCE else "'', null, null"
        columns += f", {self._version_column()}"
        query = f"select path, stage, reason, size, mtime_ns, tried_at, {columns} from failures order by path"
        for path, *rest in self.connection.rows((PATH, str, str, int, int, str, str, NUMBER, NUMBER, VERSION), query):
            yield Failure(self.paths.absolute(path), *rest)

    def fail(self, failure: Failure) -> None:
        """Record a failure, and mark an image at its path as missing: the content of the file has changed."""
        stored = self.paths.stored(failure.path)
        values = (stored, *stored_stat(failure), failure.stage, failure.reason, timestamp(), failure.decoder or None)
        columns = "path, size, mtime_ns, ctime_ns, inode, version, stage, reason, tried_at, decoder"
        self.connection.execute(f"insert or replace into failures ({columns}) values (?,?,?,?,?,?,?,?,?,?)", values)
        self.connection.execute("update images set present = 0 where path = ?", (stored,))

    def forget(self, paths: Iterable[str]) -> None:
        """Delete the failures at these absolute paths."""
        for path in paths:
            self.clear(self.paths.stored(path))

    def clear(self, stored: StoredPath) -> None:
        """Delete the failure at a stored path, if there is one."""
        self.connection.execute("delete from failures where path = ?", (stored,))

    def clear_each(self, stored: Iterable[StoredPath]) -> None:
        """Delete the failures at stored paths. It costs nothing where there are none, as in most runs."""
        if self.connection.execute("select exists (select 1 from failures)").fetchone()[0]:
            self.connection.executemany("delete from failures where path = ?", ((path,) for path in stored))

    def other_files(self, files: Sequence[FoundFile]) -> set[str]:
        """Return the paths of those files that were found not to be images, and have not changed since."""
        if self._version() < OTHER_FILES_SINCE:
            return set()
        found = set()
        for start in range(0, len(files), FILES_PER_QUERY):
            chunk = {self.paths.stored(file.path): file for file in files[start : start + FILES_PER_QUERY]}
            columns = f"path, size, mtime_ns, ctime_ns, inode, {self._version_column()}"
            query = f"select {columns} from other_files where path in ({','.join('?' * len(chunk))})"
            kinds = (PATH, int, int, NUMBER, NUMBER, VERSION)
            for path, *stat in self.connection.rows(kinds, query, list(chunk)):
                file = chunk[path]
                if is_same_stat(tuple(stat), stored_stat(file)):
                    found.add(file.path)
        return found

    def add_other_files(self, files: Iterable[FoundFile]) -> None:
        """Record files that are not images, so that no scan opens them again while they do not change."""
        rows = ((self.paths.stored(file.path), *stored_stat(file)) for file in files)
        self.connection.executemany("insert or replace into other_files values (?, ?, ?, ?, ?, ?)", rows)

    def forget_other_files(self, outdated: Callable[[Iterable[str]], Iterable[str]]) -> None:
        """Delete the records of those files that are not images which a function returns of the absolute paths."""
        paths = [self.paths.absolute(path) for (path,) in self.connection.rows((PATH,), "select path from other_files")]
        forgotten = [(self.paths.stored(path),) for path in outdated(paths)]
        self.connection.executemany("delete from other_files where path = ?", forgotten)

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
        if self._version() < MOUNTS_SINCE:
            return {}
        query = "select path, mount from roots where mount is not null"
        absolute = self.paths.absolute
        return {absolute(path): absolute(mount) for path, mount in self.connection.rows((PATH, PATH), query)}

    def _version_column(self) -> str:
        return "version" if self._version() >= VERSIONS_SINCE else "null"

    def _version(self) -> int:
        version: int = self.connection.execute("pragma user_version").fetchone()[0]
        return version

    def record_run(self, command: str, started_at: str, seconds: float, report: dict[str, Any]) -> None:
        values = (command, started_at, seconds, json.dumps(report))
        self.connection.execute("insert into runs (command, started_at, seconds, report) values (?,?,?,?)", values)

    def seconds(self, command: str) -> float:
        """Return how long all runs of a command took together."""
        query = "select coalesce(sum(seconds), 0) from runs where command = ?"
        return float(self.connection.execute(query, (command,)).fetchone()[0])

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
