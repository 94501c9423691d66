"""What a run did to one folder of files, as strace saw it: every write, sync and change of a name, in their order."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CALLS = (
    *("openat", "open", "creat", "close", "dup", "dup2", "dup3", "lseek"),
    *("write", "writev", "pwrite64", "pwritev", "pwritev2", "ftruncate", "truncate", "fallocate"),
    *("sendfile", "copy_file_range", "fsync", "fdatasync", "sync_file_range"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"),
    *("link", "linkat", "symlink", "symlinkat"),
)
LINE = re.compile(r"(\d+\.\d+) (\w+)\((.*)\) += (-?\d+)\b(.*)")
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that was done to the folder, or (`mark`) the end of a line of the journal.

    file: the number of a file, which it keeps under every name. failed: whether the call failed.
    call, nth: the system call, and how many of its name its thread had made with it, by which strace finds it again.
    """

    kind: str  # write truncate sync · create rename unlink mkdir rmdir syncdir · mark
    path: str = ""
    file: int = -1
    offset: int = 0
    data: bytes = b""
    target: str = ""
    call: str = ""
    nth: int = 0
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One line of strace."""

    name: str
    arguments: list[str]
    result: int
    nth: int
    injected: bool

    def text(self, position: int) -> str:
        return os.fsdecode(self.bytes(position))

    def bytes(self, position: int) -> bytes:
        """The strings in an argument, one behind the other (writev has several)."""
        parts = TEXT.findall(self.arguments[position])
        return b"".join(bytes.fromhex(part.replace("\\x", "")) for part in parts)

    def number(self, position: int) -> int:
        return int(self.arguments[position], 0)


@dataclass(slots=True)
class Open:
    """An open file or folder, shared by the descriptors that were copied from one another."""

    path: str
    file: int  # -1: a folder
    offset: int = 0
    appends: bool = False


def trace(command: Sequence[str], logs: Path, *, inject: str = "", timeout: float = 300) -> subprocess.CompletedProcess:
    """Run a command under strace, which writes a log for each thread into `logs`; inject: as strace has it."""
    logs.mkdir(parents=True, exist_ok=True)
    options = ["-ff", "-qq", "-ttt", "-xx", "-s", "16777216", "-e", "signal=none", "-o", os.fspath(logs / "thread")]
    options += ["-e", "trace=" + ",".join(f"?{name}" for name in CALLS)]
    # With the filter in the kernel, which saves most of the time, strace 6.1 injects no signals.
    options += ["-e", f"inject={inject}"] if inject else ["--seccomp-bpf"]
    return subprocess.run(
        ["strace", *options, *command],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout,
        check=False,
    )


def calls(logs: Path) -> Iterator[Call]:
    """Yield the calls of all threads in the order in which they began."""
    lines = []
    for log in sorted(logs.glob("thread.*")):
        counts: Counter[str] = Counter()
        for line in log.read_text(encoding="ascii").splitlines():
            match = LINE.fullmatch(line)
            if match is None:
                continue  # how the thread ended, or the call that it was killed in
            at, name, arguments, result, rest = match.groups()
            counts[name] += 1
            call = Call(name, _split(arguments), int(result), counts[name], "INJECTED" in rest)
            lines.append((float(at), call))
    yield from (call for _, call in sorted(lines, key=lambda pair: pair[0]))


def _split(arguments: str) -> list[str]:
    """The arguments; strings have no comma in them, as every byte is written as \\xNN, but lists have."""
    parts: list[str] = []
    depth = 0
    for part in arguments.split(", "):
        if depth:
            parts[-1] += ", " + part
        else:
            parts.append(part)
        depth += part.count("[") + part.count("{") - part.count("]") - part.count("}")
    return parts


class Recorder:
    """Turns calls into events: follows descriptors and names below `root`, and the lines of `ledger`."""

    def __init__(self, root: str, ledger: str, files: Sequence[str] = ()) -> None:
        """files: those that were there before, whose numbers are their places."""
        self.root, self.ledger = root, ledger
        self.parent = os.path.dirname(root)
        self._descriptors: dict[int, Open] = {}
        self._names: dict[str, int] = {path: number for number, path in enumerate(files)}
        self._files = len(files)

    def events(self, calls: Iterator[Call]) -> Iterator[Event]:
        for call in calls:
            handler = getattr(self, f"on_{call.name}", None)
            if handler is not None:
                yield from handler(call)

    def _inside(self, path: str) -> bool:
        return path == self.root or path.startswith(self.root + "/")

    def _event(self, call: Call, kind: str, path: str, **more: object) -> Event:
        return Event(kind, path, call=call.name, nth=call.nth, failed=call.result < 0, **more)  # type: ignore[arg-type]

    # descriptors

    def on_openat(self, call: Call) -> Iterator[Event]:
        yield from self._opened(call, self._at(call, 0), call.arguments[2])

    def on_open(self, call: Call) -> Iterator[Event]:
        yield from self._opened(call, self._path(call, 0), call.arguments[1])

    def _opened(self, call: Call, path: str, flags: str) -> Iterator[Event]:
        if path not in (self.ledger, self.parent) and not self._inside(path):
            return
        if call.result < 0:
            if "O_CREAT" in flags and call.injected:
                yield self._event(call, "create", path)
            return
        if path == self.ledger:
            self._descriptors[call.result] = Open(path, -1)
            return
        if path not in self._names and "O_CREAT" in flags:
            self._names[path] = self._files
            yield self._event(call, "create", path, file=self._files)
            self._files += 1
        elif "O_TRUNC" in flags:
            yield self._event(call, "truncate", path, file=self._names[path])
        self._descriptors[call.result] = Open(path, self._names.get(path, -1), appends="O_APPEND" in flags)

    def on_close(self, call: Call) -> Iterator[Event]:
        self._descriptors.pop(call.number(0), None)
        return iter(())

    def on_dup(self, call: Call) -> Iterator[Event]:
        if call.number(0) in self._descriptors:
            self._descriptors[call.result] = self._descriptors[call.number(0)]
        return iter(())

    on_dup2 = on_dup3 = on_dup

    def on_lseek(self, call: Call) -> Iterator[Event]:
        if call.number(0) in self._descriptors and call.result >= 0:
            self._descriptors[call.number(0)].offset = call.result
        return iter(())

    # the bytes of files

    def on_write(self, call: Call) -> Iterator[Event]:
        opened = self._descriptors.get(call.number(0))
        if opened is None:
            return
        if opened.path == self.ledger:
            if call.result >= 0:
                yield self._event(call, "mark", self.ledger)
        elif call.result < 0:
            yield self._event(call, "write", opened.path, file=opened.file)
        else:
            if opened.appends:
                raise ValueError(f"{opened.path} is appended to: the replay does not know where")
            data = call.bytes(1)[: call.result]
            yield self._event(call, "write", opened.path, file=opened.file, offset=opened.offset, data=data)
            opened.offset += call.result

    on_writev = on_write

    def on_pwrite64(self, call: Call) -> Iterator[Event]:
        opened = self._descriptors.get(call.number(0))
        if opened is not None:
            data = call.bytes(1)[: max(0, call.result)]
            yield self._event(call, "write", opened.path, file=opened.file, offset=call.number(3), data=data)

    on_pwritev = on_pwritev2 = on_pwrite64

    def on_ftruncate(self, call: Call) -> Iterator[Event]:
        opened = self._descriptors.get(call.number(0))
        if opened is not None:
            yield self._event(call, "truncate", opened.path, file=opened.file, offset=call.number(1))

    def on_fsync(self, call: Call) -> Iterator[Event]:
        opened = self._descriptors.get(call.number(0))
        if opened is not None:
            kind = "sync" if opened.file >= 0 else "syncdir"
            yield self._event(call, kind, opened.path, file=opened.file)

    on_fdatasync = on_fsync

    def _unknown(self, call: Call) -> Iterator[Event]:
        """Calls that the replay cannot follow; one that changes the folder is reported."""
        written = call.arguments[2 if call.name == "copy_file_range" else 0]
        paths = [self._path(call, n) for n, text in enumerate(call.arguments) if text.startswith('"')]
        if any(self._inside(path) for path in paths) or (written.isdigit() and int(written) in self._descriptors):
            raise ValueError(f"the replay does not know {call.name}({', '.join(call.arguments)})")
        return iter(())

    on_truncate = on_fallocate = on_sendfile = on_copy_file_range = _unknown
    on_creat = on_link = on_linkat = on_symlink = on_symlinkat = _unknown

    # names

    def _path(self, call: Call, position: int) -> str:
        return os.path.abspath(call.text(position))

    def _at(self, call: Call, position: int) -> str:
        """The path that a call names by a descriptor of a folder and a name."""
        folder, name = call.arguments[position], call.text(position + 1)
        if folder == "AT_FDCWD" or name.startswith("/"):
            return os.path.abspath(name)
        opened = self._descriptors.get(int(folder))
        return os.path.normpath(os.path.join(opened.path, name)) if opened is not None else "/elsewhere"

    def on_mkdir(self, call: Call) -> Iterator[Event]:
        yield from self._named(call, "mkdir", self._path(call, 0))

    def on_mkdirat(self, call: Call) -> Iterator[Event]:
        yield from self._named(call, "mkdir", self._at(call, 0))

    def on_unlink(self, call: Call) -> Iterator[Event]:
        yield from self._named(call, "unlink", self._path(call, 0))

    def on_rmdir(self, call: Call) -> Iterator[Event]:
        yield from self._named(call, "rmdir", self._path(call, 0))

    def on_unlinkat(self, call: Call) -> Iterator[Event]:
        yield from self._named(call, "rmdir" if "AT_REMOVEDIR" in call.arguments[2] else "unlink", self._at(call, 0))

    def on_rename(self, call: Call) -> Iterator[Event]:
        yield from self._named(call, "rename", self._path(call, 0), self._path(call, 1))

    def on_renameat(self, call: Call) -> Iterator[Event]:
        yield from self._named(call, "rename", self._at(call, 0), self._at(call, 2))

    on_renameat2 = on_renameat

    def _named(self, call: Call, kind: str, path: str, target: str = "") -> Iterator[Event]:
        if not self._inside(path) and not self._inside(target):
            return
        if call.result >= 0:
            file = self._names.pop(path, -1)
            if target:
                self._rename_below(path, target)
                if file >= 0:
                    self._names[target] = file
            yield self._event(call, kind, path, file=file, target=target)
        elif call.injected:
            yield self._event(call, kind, path, target=target)

    def _rename_below(self, path: str, target: str) -> None:
        for name in [name for name in self._names if name.startswith(path + "/")]:
            self._names[target + name[len(path) :]] = self._names.pop(name)
