"""Disks for the campaign `steps`: one that knows at each step what a death or a power loss would leave, one that fails.

An `Image` is the content of a folder on a disk, in memory. A process that dies leaves what was done so far. A power
loss leaves less: of each file what was last synced, and of what came later anything; of the names in a folder
those of its last sync, and of later changes any choice. SQLite syncs its own files, and another campaign looks at them.
"""

from __future__ import annotations

import errno
import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from imgindex.storage import durable
from imgindex.storage.durable import Disk

Files = dict[str, bytes]  # path below the watched folder → content; a folder's path ends in /


class Died(BaseException):
    """What a run dies of here."""


@dataclass(frozen=True)
class Point:
    """What would be on the disk if the run ended at one of its steps, in one of the ways to end."""

    step: int
    kind: str
    way: str
    files: Files
    acknowledged: int  # how often the run had reported progress


@dataclass
class File:
    """A file whose name may change: what was written, and what was in it when it was last synced."""

    data: bytes
    synced: bytes
    unsynced: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Change:
    """A change of a name that its folder was not synced after."""

    kind: str
    name: str
    target: str = ""
    file: File | None = None

    def apply(self, names: dict[str, File], folders: set[str]) -> None:
        """Make it in the names that a disk has, if it can be made there."""
        if self.kind == "open" and self.file is not None:
            names[self.name] = self.file
        elif self.kind == "rename" and self.name in names:
            names[self.target] = names.pop(self.name)
        elif self.kind == "unlink":
            names.pop(self.name, None)
        elif self.kind == "make folder":
            folders.add(self.name)


class Steps(Disk):
    """A disk that passes every step to `step`, with the kind and path of it and what does it."""

    def step(self, kind: str, path: str, act: Callable[[], Any], **about: Any) -> Any:
        return act()

    def open(self, path: str) -> int:
        return self.step("open", path, lambda: Disk.open(self, path))

    def write(self, path: str, descriptor: int, data: memoryview, offset: int) -> int:
        def act(part: slice = slice(None)) -> int:
            return Disk.write(self, path, descriptor, data[part], offset + (part.start or 0))

        return self.step("write", path, act, part=act, data=data, offset=offset)

    def truncate(self, path: str, descriptor: int, length: int) -> None:
        self.step("truncate", path, lambda: Disk.truncate(self, path, descriptor, length), length=length)

    def sync(self, path: str, descriptor: int) -> None:
        self.step("sync", path, lambda: Disk.sync(self, path, descriptor))

    def rename(self, path: str, target: str) -> None:
        self.step("rename", path, lambda: Disk.rename(self, path, target), target=target)

    def unlink(self, path: str) -> None:
        self.step("unlink", path, lambda: Disk.unlink(self, path))

    def make_folder(self, path: str) -> None:
        self.step("make folder", path, lambda: Disk.make_folder(self, path))

    def sync_folder(self, path: str) -> None:
        self.step("sync folder", path, lambda: Disk.sync_folder(self, path))

    def execute(self, path: str, connection: sqlite3.Connection, statement: str) -> None:
        kind = next(word for word in ("commit", "checkpoint", "vacuum") if word in statement)
        self.step(kind, path, lambda: Disk.execute(self, path, connection, statement), connection=connection)


@contextmanager
def put(disk: Disk) -> Iterator[None]:
    """Let the store use another disk within the block."""
    before, durable.disk = durable.disk, disk
    try:
        yield
    finally:
        durable.disk = before


def is_others(path: str) -> bool:
    """Whether a file is changed by SQLite itself, or is the lock file, which only names its holder."""
    name = os.path.basename(path)
    return name == "lock" or (name.startswith("catalogue.db") and not name.endswith((".crc32", ".crc32.new")))


def is_shared_memory(path: str) -> bool:
    return path.endswith("-shm")


def contents(folder: Path) -> Files:
    """Return every file and folder below a folder, which itself is `/`; no files where there is no folder."""
    files: Files = {"/": b""} if folder.is_dir() else {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        files[name + "/" if path.is_dir() else name] = b"" if path.is_dir() else path.read_bytes()
    return files


class Recorder(Steps):
    """Does every step, and keeps what a death or a power loss before, in the middle of and after it would leave."""

    def __init__(self, folder: Path, seed: int, points: bool = True) -> None:
        self.folder, self.random, self.with_points = folder, random.Random(seed), points
        self.kinds: list[str] = []
        self.points: list[Point] = []
        self.strange: list[str] = []
        self.acknowledged = 0
        there = contents(folder)
        self._folders = {path for path in there if path.endswith("/")}
        self._names = {path: File(data, data) for path, data in there.items() if not path.endswith("/")}
        self._durable, self._durable_folders = dict(self._names), set(self._folders)
        self._pending: list[Change] = []

    def _relative(self, path: str) -> str:
        relative = os.path.relpath(os.path.abspath(path), self.folder)
        return "" if relative == "." else relative

    def step(self, kind: str, path: str, act: Callable[[], Any], **about: Any) -> Any:
        self._look(kind, "before")
        self.kinds.append(kind)
        before = contents(self.folder)
        if kind == "write":
            half = len(about["data"]) // 2
            about["part"](slice(0, half))
            self._note(kind, path, about | {"data": about["data"][:half]})
            self._look(kind, "in the middle", power=False)
            about["part"](slice(half, None))
            result = len(about["data"])
        else:
            if kind in ("rename", "unlink"):
                self._refresh()
            result = act()
        self._note(kind, path, about)
        if kind == "commit":
            self._cut_log(before, self._relative(path) + "-wal")
        return result

    def end(self) -> None:
        """Keep what is there after the last step."""
        self._look("end", "after")

    def _note(self, kind: str, path: str, about: dict[str, Any]) -> None:
        name = self._relative(path)
        if kind == "open" and name not in self._names:
            self._names[name] = File(b"", b"")
            self._pending.append(Change(kind, name, file=self._names[name]))
        elif kind == "write":
            file, start, end = self._names[name], about["offset"], about["offset"] + len(about["data"])
            file.data = file.data[:start].ljust(start, b"\0") + bytes(about["data"]) + file.data[end:]
            file.unsynced.append((start, end))
        elif kind == "truncate":
            file = self._names[name]
            file.data = file.data[: about["length"]].ljust(about["length"], b"\0")
        elif kind == "sync":
            file = self._names[name]
            file.synced, file.unsynced = file.data, []
        elif kind == "rename":
            target = self._relative(about["target"])
            self._names[target] = self._names.pop(name)
            self._pending.append(Change(kind, name, target))
        elif kind == "unlink":
            del self._names[name]
            self._pending.append(Change(kind, name))
        elif kind == "make folder" and _folder(name) not in self._folders:
            self._folders.add(_folder(name))
            self._pending.append(Change(kind, _folder(name)))
        elif kind == "sync folder":
            for change in [change for change in self._pending if _folder_of(change.name) == name]:
                self._pending.remove(change)
                change.apply(self._durable, self._durable_folders)

    def _refresh(self) -> None:
        """Take over what SQLite did by itself, as synced; anything else that changed by itself is strange."""
        there = contents(self.folder)
        for name, data in there.items():
            file = self._names.get(name)
            if name.endswith("/") or (file is not None and file.data == data):
                continue
            if not is_others(name):
                self.strange.append(f"{name} changed without a step")
            if file is None:
                self._durable[name] = self._names[name] = File(data, data)
            else:
                file.data = file.synced = data
        for name in self._names.keys() - there.keys():
            if not is_others(name):
                self.strange.append(f"{name} vanished without a step")
            self._durable.pop(name, None)
            del self._names[name]

    def _look(self, kind: str, when: str, *, power: bool = True) -> None:
        self._refresh()
        if not self.with_points:
            return
        there: Files = dict.fromkeys(self._folders, b"") | {name: file.data for name, file in self._names.items()}
        self._keep(kind, f"death {when}, its shared memory left", there)
        self._keep(kind, f"death {when}", _without_shared_memory(there))
        if power:
            for way, files in self._power_losses():
                self._keep(kind, f"power loss {when}, {way}", _without_shared_memory(files))

    def _keep(self, kind: str, way: str, files: Files) -> None:
        self.points.append(Point(len(self.kinds), kind, way, files, self.acknowledged))

    def _cut_log(self, before: Files, log: str) -> None:
        """A commit that dies while it writes its log: a beginning of what it wrote is there."""
        after = contents(self.folder)
        old, new = before.get(log, b""), after.get(log, b"")
        start = next((at for at, (one, two) in enumerate(zip(old, new, strict=False)) if one != two), len(old))
        places = {start + 1, (start + len(new)) // 2, len(new) - 1, self.random.randrange(start, len(new) + 1)}
        for place in places:
            for left in (True, False):
                files = before | {log: new[:place] + old[place:]}
                way = "death in the middle" + (", its shared memory left" if left else "")
                self._keep("commit", way, files if left else _without_shared_memory(files))

    def _power_losses(self) -> Iterator[tuple[str, Files]]:
        count = len(self._pending)
        chosen = {choice for size in range(count + 1) for choice in combinations(range(count), size)}
        for choice in sorted(chosen):
            names, folders = dict(self._durable), set(self._durable_folders)
            for number in choice:
                self._pending[number].apply(names, folders)
            there = {name: file for name, file in names.items() if all(f in folders for f in _folders_of(name))}
            for way in ("garbled", "zero", "absent"):
                files = {name: self._lost(file, way) for name, file in there.items()}
                yield f"{len(choice)} of {count} names, {way}", dict.fromkeys(folders, b"") | files

    def _lost(self, file: File, way: str) -> bytes:
        if way == "absent":
            return file.synced
        data = bytearray(file.data)
        for start, end in file.unsynced:
            length = max(0, min(end, len(data)) - start)
            data[start : start + length] = self.random.randbytes(length) if way == "garbled" else bytes(length)
        return bytes(data)


def _folder(name: str) -> str:
    return name + "/"


def _folder_of(name: str) -> str:
    if name == "/":
        return ".."
    return os.path.dirname(name.rstrip("/"))


def _folders_of(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/"] + ["/".join(parts[: n + 1]) + "/" for n in range(len(parts))]


def _without_shared_memory(files: Files) -> Files:
    return {name: data for name, data in files.items() if not is_shared_memory(name)}


class Failing(Steps):
    """Does every step until number `at`, which fails with an error, and so do all later ones if it is for ever."""

    def __init__(self, at: int, number: int, *, for_ever: bool = False, short: bool = False) -> None:
        self.at, self.number, self.for_ever, self.short = at, number, for_ever, short
        self.count = self.failed = 0

    def step(self, kind: str, path: str, act: Callable[[], Any], **about: Any) -> Any:
        self.count += 1
        if self.count - 1 != self.at and not (self.for_ever and self.count > self.at):
            return act()
        self.failed += 1
        return self.fail(kind, path, about)

    def fail(self, kind: str, path: str, about: dict[str, Any]) -> None:
        if kind in ("commit", "checkpoint", "vacuum"):
            if about["connection"].in_transaction:
                about["connection"].execute("rollback")
            full = self.number in FULL
            raise sqlite3.OperationalError("database or disk is full" if full else "disk I/O error")
        if self.short and kind == "write":
            about["part"](slice(0, len(about["data"]) // 2))
        raise OSError(self.number, os.strerror(self.number), path)


FULL = (errno.ENOSPC, errno.EDQUOT)


class Dead(Failing):
    """Does every step until number `at`; there the run dies, and nothing that it still tries is done."""

    def __init__(self, at: int) -> None:
        super().__init__(at, 0, for_ever=True)

    def fail(self, kind: str, path: str, about: dict[str, Any]) -> None:
        raise Died
