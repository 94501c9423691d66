"""A folder as a crash may leave it, computed from the recorded writes: a model of what a disk promises, and no more.

What was synced is there. Of the rest a dead process loses nothing, and a power failure anything: bytes that were
written to a file may be missing, garbled or half there, and a name that was given or taken away may not be so yet.
The two are independent: a file may have its new name and not its bytes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from power_trace import Event

SECTOR = 512
# What each kind of power failure keeps of unsynced bytes, and of unsynced names.
POWER = (
    ("none", "none"),
    ("none", "all"),
    ("all", "none"),
    ("garbled", "all"),
    ("garbled", "none"),
    ("half", "all"),
    ("random", "prefix"),
    ("random", "subset"),
)

Image = dict[str, bytes | None]  # path below the root → bytes, or None: a folder


@dataclass(slots=True)
class File:
    """What is written, what is safe, and the changes between the two."""

    now: bytearray = field(default_factory=bytearray)
    safe: bytes = b""
    pending: list[Event] = field(default_factory=list)


class Disk:
    """The folder `root` and all that is below it, as events change it."""

    def __init__(self, root: str, image: Image | None = None) -> None:
        """image: what was there from the beginning, safely."""
        self.root = root
        self._files: dict[int, File] = {}
        self._names: dict[str, int] = {}
        for name, content in (image or {}).items():
            path = os.path.normpath(os.path.join(root, name))
            self._names[path] = -1 if content is None else len(self._files)
            if content is not None:
                self._files[len(self._files)] = File(bytearray(content), content)
        self._safe_names = dict(self._names)
        self._pending: list[Event] = []

    def files(self) -> list[str]:
        """Return the paths of the files that are there, each at the place of its number."""
        return sorted((path for path, file in self._names.items() if file >= 0), key=self._names.__getitem__)

    def apply(self, event: Event) -> None:
        """Do what the event did."""
        if event.failed:
            return
        match event.kind:
            case "write" | "truncate":
                file = self._files[event.file]
                _change(file.now, event, event.data)
                file.pending.append(event)
            case "sync":
                file = self._files[event.file]
                file.safe, file.pending = bytes(file.now), []
            case "syncdir":
                mine = [change for change in self._pending if os.path.dirname(change.path) == event.path]
                for change in mine:
                    _rename(self._safe_names, change)
                self._pending = [change for change in self._pending if change not in mine]
            case "create" | "mkdir" | "rename" | "unlink" | "rmdir":
                if event.kind == "create":
                    self._files[event.file] = File()
                _rename(self._names, event)
                self._pending.append(event)

    def after_death(self, event: Event | None = None) -> Image:
        """Return what is there when the process dies, in the middle of `event` if there is one."""
        bytes_of = {number: bytes(file.now) for number, file in self._files.items()}
        if event is not None:
            half = bytearray(bytes_of[event.file])
            _change(half, event, event.data[: len(event.data) // 2])
            bytes_of[event.file] = bytes(half)
        return self._image(self._names, bytes_of)

    def after_power_failure(self, data: str, names: str, chance: random.Random) -> Image:
        """Return what is there when the power fails, and what was not synced befell what `POWER` names."""
        there = dict(self._safe_names)
        for change in self._kept(names, chance):
            _rename(there, change)
        return self._image(there, {n: _survivor(file, data, chance) for n, file in self._files.items()})

    def _kept(self, names: str, chance: random.Random) -> list[Event]:
        match names:
            case "none":
                return []
            case "all":
                return self._pending
            case "prefix":
                return self._pending[: chance.randint(0, len(self._pending))]
        return [change for change in self._pending if chance.random() < 0.5]

    def _image(self, names: dict[str, int], bytes_of: dict[int, bytes]) -> Image:
        image: Image = {}
        for path in sorted(names):  # a folder comes before what is in it
            parent = os.path.dirname(path)
            if path != self.root and image.get(_below(parent, self.root), b"") is not None:
                continue
            if not path.endswith("-shm"):  # memory, not disk
                image[_below(path, self.root)] = bytes_of[names[path]] if names[path] >= 0 else None
        return image


def _below(path: str, root: str) -> str:
    return os.path.relpath(path, root)


def _change(content: bytearray, event: Event, data: bytes) -> None:
    if event.kind == "truncate":
        del content[event.offset :]
        content.extend(bytes(event.offset - len(content)))
        return
    if data:
        content.extend(bytes(max(0, event.offset - len(content))))
        content[event.offset : event.offset + len(data)] = data


def _rename(names: dict[str, int], event: Event) -> None:
    """Carry out a change of names; one that builds on a change which did not happen does what it can."""
    match event.kind:
        case "create":
            names[event.path] = event.file
        case "mkdir":
            names[event.path] = -1
        case "unlink":
            if names.get(event.path) == event.file:
                del names[event.path]
        case "rmdir":
            names.pop(event.path, None)
        case "rename" if event.file >= 0:
            if names.get(event.path) == event.file:
                del names[event.path]
            names[event.target] = event.file
        case "rename":
            for path in [path for path in names if path == event.path or path.startswith(event.path + "/")]:
                names[event.target + path[len(event.path) :]] = names.pop(path)


def _survivor(file: File, kind: str, chance: random.Random) -> bytes:
    """Return what is left of a file of whose changes since its last sync none, all or some came true."""
    content, changes = bytearray(file.safe), file.pending
    match kind:
        case "all":
            return bytes(file.now)
        case "garbled":
            for event in changes:
                _change(content, event, chance.randbytes(len(event.data)))
        case "half":
            whole, torn = changes[: len(changes) // 2], changes[len(changes) // 2 :][:1]
            for event in whole:
                _change(content, event, event.data)
            for event in torn:
                _change(content, event, event.data[: len(event.data) // 2])
        case "random":
            for event in changes:
                _change_some(content, event, chance)
    return bytes(content)


def _change_some(content: bytearray, event: Event, chance: random.Random) -> None:
    """Carry out a change, or not, or let some of its sectors be written and others not."""
    fate = chance.random()
    if fate < 0.3:
        return
    if fate < 0.6 or event.kind == "truncate":
        _change(content, event, event.data)
        return
    for start in _sectors(event):
        if chance.random() < 0.5:
            begin, end = max(start, event.offset), min(start + SECTOR, event.offset + len(event.data))
            part = event.data[begin - event.offset : end - event.offset]
            content.extend(bytes(max(0, begin - len(content))))
            content[begin:end] = part


def _sectors(event: Event) -> Iterable[int]:
    return range(event.offset - event.offset % SECTOR, event.offset + len(event.data), SECTOR)
