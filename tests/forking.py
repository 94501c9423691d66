"""Runs the command line hundreds of times a minute: a server that has imported everything forks a child for each run.

Run as a script it is the server. It never uses torch or FAISS itself, whose threads do not live on in a fork.
"""

from __future__ import annotations

import ctypes
import importlib
import io
import json
import os
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SECONDS = 60  # a child that takes longer dies of SIGALRM, which no test expects
BROKEN = "a broken pipe"


@dataclass(frozen=True, slots=True)
class Call:
    """One run of the command line.

    stdout and stderr: paths, "" for files that are read afterwards; BROKEN is a pipe whose reader has left.
    closed: numbers of standard streams that are not open at all.
    interrupt_at: the function call, counted from 1, at which Ctrl-C is pressed.
    """

    arguments: Sequence[str]
    folder: str
    environment: Mapping[str, str | None] = field(default_factory=dict)
    stdin: str = os.devnull
    stdout: str = ""
    stderr: str = ""
    closed: Sequence[int] = ()
    unprivileged: bool = False
    folder_goes: bool = False
    interrupt_at: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """How a run ended; `calls` counts the function calls that it made, where it was to be interrupted."""

    code: int
    stdout: bytes
    stderr: str
    calls: int = 0


class ForkServer:
    """Talks to the server; `run` is what the tests call."""

    def __init__(self, scratch: Path) -> None:
        self._out, self._err, self._calls = (scratch / name for name in ("stdout", "stderr", "calls"))
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TORCH_HOME": str(scratch / "torch"),
            "https_proxy": "http://127.0.0.1:9",
        }
        environment.pop("IMGINDEX_DIR", None)
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(self._out), str(self._err), str(self._calls)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str | Path, folder: Path, **options: Any) -> Done:
        call = Call([os.fspath(argument) for argument in arguments], str(folder), **options)
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(asdict(call)) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        calls = int(self._calls.read_text() or 0) if self._calls.exists() else 0
        return Done(code, self._out.read_bytes(), self._err.read_text("utf-8", "surrogateescape"), calls)

    def close(self) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(10)
        self._server.stdout.close()


def serve(out: str, err: str, calls: str) -> None:
    """Fork a child for each line of stdin and answer with its exit code, or minus the signal that it died of."""
    load()
    for line in sys.stdin:
        call = Call(**json.loads(line))
        child = os.fork()
        if child == 0:
            os._exit(run(call, out, err, calls))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def load() -> None:
    """Import what the commands import late, torch before FAISS."""
    import torch  # noqa: F401  isort: skip
    import faiss  # noqa: F401  isort: skip
    import pyarrow.parquet  # noqa: F401

    import imgindex
    from imgindex.reports.formats import Document, render

    for module in pkgutil.walk_packages(imgindex.__path__, "imgindex."):
        importlib.import_module(module.name)
    # A child without privileges may not be able to read what a table needs.
    render(Document([], [], ["column"]), "table")


def run(call: Call, out: str, err: str, calls: str) -> int:
    """Become the command line; return its exit code."""
    signal.alarm(SECONDS)
    for path in (out, err):
        Path(path).write_bytes(b"")
    for number, path in enumerate((call.stdin, call.stdout or out, call.stderr or err)):
        connect(number, path)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    for number in call.closed:
        # As the interpreter finds them when it starts.
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)
        os.close(number)
    os.chdir(call.folder)
    if call.folder_goes:
        os.rmdir(call.folder)
    for name, value in call.environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    if call.unprivileged and os.getuid() == 0:
        lose_privileges()
    sys.argv = ["imgindex", *call.arguments]
    counted = count(call.interrupt_at) if call.interrupt_at else [0]
    code = main()
    sys.setprofile(None)
    if call.interrupt_at:
        Path(calls).write_text(str(counted[0]))
    return code


def lose_privileges() -> None:
    """Let root be bound by the modes of its own files, in processes that it starts too (see capabilities(7)).

    Another user could not start any: the interpreter may lie in root's home.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    drop_from_bounding_set, version_3 = 24, 0x20080522
    for capability in range(64):
        libc.prctl(drop_from_bounding_set, capability, 0, 0, 0)
    header, none = (ctypes.c_uint32 * 2)(version_3, 0), (ctypes.c_uint32 * 6)()
    if libc.capset(header, none):
        raise OSError(ctypes.get_errno(), "cannot lose privileges")


def connect(number: int, path: str) -> None:
    """Let a standard stream be this file."""
    if path == BROKEN:
        reader, descriptor = os.pipe()
        os.close(reader)
    else:
        descriptor = os.open(path, os.O_RDWR if number else os.O_RDONLY)
    os.dup2(descriptor, number)
    os.close(descriptor)


def main() -> int:
    from imgindex.__main__ import main as command

    try:
        command()
    except SystemExit as ended:
        return int(ended.code or 0)


def count(interrupt_at: int) -> list[int]:
    """Count the calls of Python functions from here on, and press Ctrl-C at one of them."""
    counted = [0]

    def watch(frame: object, event: str, argument: object) -> None:
        if event == "call":
            counted[0] += 1
            if counted[0] == interrupt_at:
                os.kill(os.getpid(), signal.SIGINT)

    sys.setprofile(watch)
    return counted


if __name__ == "__main__":
    serve(*sys.argv[1:])
