"""Runs the command line hundreds of times a minute: a server that has imported everything forks a child for each run.

Run as a script it is the server. It never uses FAISS itself, whose threads do not live on in a fork.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import importlib
import io
import json
import os
import pkgutil
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Run = Callable[..., "subprocess.CompletedProcess[str]"]

SECONDS = 300  # a child that takes longer dies of SIGALRM, which no test expects, on a busy machine either
# Variables that an interpreter or a library reads once, when it starts.
AT_START = ("PYTHON", "LC_", "LANG", "LD_", "OMP_", "MKL_", "OPENBLAS_", "MALLOC_", "CUDA_", "TORCH")
AT_EACH_RUN = {"TORCH_HOME"}
BROKEN = "a broken pipe"


@dataclass(frozen=True, slots=True)
class Call:
    """One run of the command line.

    stdout and stderr: paths, "" for files that are read afterwards; BROKEN is a pipe whose reader has left.
    closed: numbers of standard streams that are not open at all.
    interrupt_at: the function call, counted from 1, at which Ctrl-C is pressed.
    file_limit: the most bytes that a file may have, 0 for any number.
    grid_mean: whether the encoder of the tests takes the network's place.
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
    file_limit: int = 0
    grid_mean: bool = False


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
        self._in = scratch / "stdin"
        self._environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TORCH_HOME": str(scratch / "torch"),
            "https_proxy": "http://127.0.0.1:9",
        }
        self._environment.pop("IMGINDEX_DIR", None)
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(self._out), str(self._err), str(self._calls)],
            env=self._environment,
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

    def can_run_in(self, environment: Mapping[str, str]) -> bool:
        """Return whether a fork behaves as a new interpreter would in this environment."""
        return _read_at_start(environment) == _read_at_start(self._environment)

    def complete(
        self,
        command: Sequence[str],
        *,
        cwd: str | Path,
        env: Mapping[str, str],
        input: str | bytes | None = None,
        stdin: object = None,
        text: bool = True,
        errors: str | None = None,
    ) -> subprocess.CompletedProcess[Any]:
        """Run `python -m imgindex …` as `subprocess.run` does that captures its output."""
        assert stdin in (None, subprocess.DEVNULL)
        if input is not None:
            self._in.write_bytes(input.encode("utf-8", errors or "strict") if isinstance(input, str) else input)
        changes = {name: env.get(name) for name in self._environment.keys() | env.keys()}
        given = os.devnull if input is None else str(self._in)
        done = self.run(*command[3:], folder=Path(cwd), environment=changes, stdin=given)
        out, err = done.stdout, done.stderr.encode("utf-8", "surrogateescape")
        if not text:
            return subprocess.CompletedProcess(command, done.code, out, err)
        decoded = (io.TextIOWrapper(io.BytesIO(data), "utf-8", errors).read() for data in (out, err))
        return subprocess.CompletedProcess(command, done.code, *decoded)

    def close(self) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(60)
        self._server.stdout.close()


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    names = (name for name in environment if name.startswith(AT_START) and name not in AT_EACH_RUN)
    return {name: environment[name] for name in names if name != "OMP_NUM_THREADS"}


def serve(out: str, err: str, calls: str) -> None:
    """Fork a child for each line of stdin and answer with its exit code, or minus the signal that it died of."""
    gc.disable()
    load()
    gc.freeze()
    gc.enable()
    collapse_pages()
    for line in sys.stdin:
        call = Call(**json.loads(line))
        child = os.fork()
        if child == 0:
            os._exit(run(call, out, err, calls))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def collapse_pages() -> None:
    """Move this process's memory to pages of 2 MiB: its forks then start and end in two thirds of the time.

    Linux before 6.1, and other systems, refuse, and nothing changes.
    """
    collapse, size = 25, 2 << 20  # MADV_COLLAPSE, see madvise(2)
    libc = ctypes.CDLL(None)
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
            addresses, mode, _, _, _, *name = line.split(maxsplit=5)
            first, last = (int(address, 16) for address in addresses.split("-"))
            first, last = -(-first // size) * size, last // size * size
            if mode == "rw-p" and name in ([], ["[heap]"]) and first < last:
                libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), collapse)


def load() -> None:
    """Import what the commands import late, but torch, which few need: with it a fork takes 15 ms longer."""
    import faiss  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import typer.main

    import imgindex
    from imgindex.cli.app import app
    from imgindex.export.tables import Table, render

    for module in pkgutil.walk_packages(imgindex.__path__, "imgindex."):
        if module.name == "imgindex.nodes.ray_process":
            continue  # it is a process of its own, and Ray may not be installed
        with without_torch(), contextlib.suppress(NeedsTorch):
            importlib.import_module(module.name)
    # A child without privileges may not be able to read what a table needs.
    render(Table([], [], ["column"]), "table")
    import_what_commands_import()
    remember_the_network()
    # The commands are described by their signatures, which takes longer than most of them take to run.
    typer.main.get_command = functools.cache(typer.main.get_command)
    typer.main.get_command(app)


def remember_the_network() -> None:
    """Keep what a child would compute anew, for half a second, before it embeds a picture by the shipped weights.

    OpenVINO has threads, so a child tries how it computes.
    """
    from imgindex.encoders import cpu
    from imgindex.encoders.vgg import graph
    from imgindex.encoders.weights import SHIPPED, locate_weights
    from imgindex.recipe import get_recipe
    from imgindex.types import Engine

    recipe, weights = get_recipe("vgg16-pool5", size=32), locate_weights(SHIPPED)

    def try_it() -> dict[str, Any]:
        cpu.cpu_encoder(recipe, graph.VggGraphs(recipe, weights), Engine())
        return {"limit": cpu.weight_limit(), "faults": cpu._INT8_FAULTS}

    found = in_a_child(try_it)
    cpu._INT8_FAULTS.update(found["faults"])
    cpu.weight_limit = graph.weight_limit = functools.cache(lambda: found["limit"])

    rounded, kept = graph.VggGraphs._rounded, {}

    @functools.cache
    def read(weights: Any, shapes: tuple[Any, ...]) -> dict[str, Any]:
        return load_weights(weights, dict(shapes))

    def remembered(self: graph.VggGraphs) -> Any:
        if self.key not in kept:
            kept[self.key] = rounded.func(self)
        return kept[self.key]

    load_weights = graph.load_weights
    graph.load_weights = lambda weights, shapes: dict(read(weights, tuple(shapes.items())))
    graph.VggGraphs._rounded = property(remembered)  # type: ignore[assignment]
    remembered(graph.VggGraphs(recipe, weights))


def in_a_child(compute: Callable[[], Any]) -> Any:
    """Return what a forked child returns, as JSON has it; this process stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        answer, child = Path(folder, "answer"), os.fork()
        if child == 0:
            try:
                answer.write_text(json.dumps(compute()))
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        return json.loads(answer.read_text())


class NeedsTorch(ImportError):
    """A module imports torch when it is imported itself."""


@contextlib.contextmanager
def without_torch() -> Iterator[None]:
    class Finder:
        @staticmethod
        def find_spec(name: str, path: object, target: object = None) -> None:
            if name == "torch":
                raise NeedsTorch(name)

    sys.meta_path.insert(0, Finder)  # type: ignore[arg-type]
    try:
        yield
    finally:
        sys.meta_path.remove(Finder)  # type: ignore[arg-type]


def import_what_commands_import() -> None:
    """Import the modules that the command line imports late, by itself and for help and answers."""

    def try_it() -> list[str]:
        before = set(sys.modules)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            for number in range(3):
                connect(number, os.devnull)
            for arguments in (["list", "--help"], ["list"], ["similar", "picture", "--index", "absent"]):
                sys.argv = ["imgindex", *arguments]
                main()
        return sorted(sys.modules.keys() - before)

    for name in in_a_child(try_it):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


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
    if call.file_limit:
        limit_files(call.file_limit)
    if call.grid_mean:
        embed_by_grid_mean()
    sys.argv = ["imgindex", *call.arguments]
    if not is_about_processes(call):
        decode_here()
    counted = count(call.interrupt_at) if call.interrupt_at else [0]
    code = main()
    sys.setprofile(None)
    if call.interrupt_at:
        Path(calls).write_text(str(counted[0]))
    return code


def is_about_processes(call: Call) -> bool:
    """Return whether streams, rights or signals are under test, which processes that decode inherit or receive too."""
    is_open = not call.closed and BROKEN not in (call.stdin, call.stdout, call.stderr)
    return call.interrupt_at > 0 or call.unprivileged or call.folder_goes or not is_open


def decode_here() -> None:
    """Decode in this process: to start others would take longer than the run. tests/decoding has the command's own."""
    from decoders_here import work_here

    from imgindex.decoding.pool import DecoderPool

    DecoderPool.start = lambda self: None  # type: ignore[method-assign]
    DecoderPool.work = work_here  # type: ignore[method-assign]


def embed_by_grid_mean() -> None:
    """Let every index have the encoder of the tests, which needs no network."""
    from grid_mean import GridMean

    from imgindex import ImageIndex

    ImageIndex.encoder = property(lambda self: GridMean(batch_size=2))  # type: ignore[assignment,method-assign]


def limit_files(most: int) -> None:
    """Let no file grow beyond so many bytes, as a quota does."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as the interpreter does when it starts
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


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
