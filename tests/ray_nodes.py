"""Real nodes of a Ray cluster for tests: on 127.0.0.1 and 127.0.0.2, each ended by its process ids.

A node listens on every address of its machine. So all of them, and the commands that use them, run in a network
namespace that has only the loopback.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PORT = 6399
ADDRESS = f"127.0.0.1:{PORT}"
START, END = 240.0, 30.0
ATTEMPTS = 3
READY = "Ray runtime started"
NODE_OPTIONS = ("--object-store-memory=100000000", "--disable-usage-stats", "--block")
ENVIRONMENT = {
    "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Other programs may use the memory of this machine.
    "RAY_memory_monitor_refresh_ms": "0",
    # Each node has one thread, so that two of them need no more processors than the tests have.
    "OMP_NUM_THREADS": "1",
}


def why_not() -> str | None:
    """Return why there can be no nodes here; None if there can."""
    if importlib.util.find_spec("ray") is None:
        return "ray is not installed"
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program) is None:
            return f"there is no {program}"
    made = subprocess.run(["unshare", "-n", "true"], capture_output=True, text=True, check=False)
    return None if made.returncode == 0 else f"no network namespace can be made: {made.stderr.strip()}"


# The command line, which commits each batch at once.
COMMITS_AT_ONCE = """
from imgindex.__main__ import main
from imgindex.ingest import store_recorder

store_recorder.COMMIT_SECONDS = 0.0
main()
"""


class RayNodes:
    """Nodes of one cluster; number 0 is its head."""

    def __init__(self, *, cpus: Sequence[int] = (2, 2), environments: Sequence[dict[str, str]] = ({}, {})) -> None:
        self.cpus, self._environments = cpus, environments
        # A short path: Ray makes sockets in it.
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        # Ray runs what it receives: with a token it asks who sends it.
        (self.folder / "token").write_text(secrets.token_hex(32))
        self._environment = {**ENVIRONMENT, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": f"{self.folder}/token"}
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}
        self._namespace = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "ip link set lo up; echo; exec sleep infinity"], stdout=subprocess.PIPE
        )
        assert self._namespace.stdout is not None
        with self._namespace.stdout as ready:
            ready.readline()

    def inside(self, *command: str | Path) -> list[str]:
        """Return a command that runs where the nodes are."""
        return ["nsenter", "-t", str(self._namespace.pid), "-n", *map(str, command)]

    def start(self, *numbers: int) -> None:
        """Start nodes, and wait until they take part."""
        for number in numbers:
            log = self.folder / f"node{number}.log"
            # Ray gives up after half a minute, which a busy machine may need.
            for _ in range(ATTEMPTS):
                self._nodes[number] = self._start(number, log)
                if self._is_ready(number, log):
                    break
            else:
                raise AssertionError(log.read_text(errors="replace"))

    def _start(self, number: int, log: Path) -> subprocess.Popen[bytes]:
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--node-ip-address=127.0.0.{number + 1}"]
        if number == 0:
            ray += ["--head", f"--port={PORT}", f"--temp-dir={self.folder}/ray", "--include-dashboard=false"]
        else:
            ray += [f"--address={ADDRESS}"]
        with log.open("wb") as file:
            return subprocess.Popen(
                self.inside(*ray, f"--num-cpus={self.cpus[number]}", *NODE_OPTIONS),
                env={**os.environ, **self._environment, **self._environments[number]},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=self.folder,
                start_new_session=True,
            )

    def _is_ready(self, number: int, log: Path) -> bool:
        """Wait until a node takes part; return False if it ended instead, with what it had started."""
        started: set[int] = set()
        end = time.monotonic() + START
        while READY not in log.read_text(errors="replace"):
            started |= set(children(self._nodes[number].pid))
            if self._nodes[number].poll() is not None:
                for pid in started:
                    _kill(pid, signal.SIGKILL)
                return False
            assert time.monotonic() < end, log.read_text(errors="replace")
            time.sleep(0.1)
        return True

    def kill(self, number: int) -> None:
        """Kill a node as a power cut does: its raylet at once, and with it its workers."""
        started = self._nodes.pop(number)
        for pid in children(started.pid):
            _kill(pid, signal.SIGKILL)
        started.wait(END)

    def run(self, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the command line where the nodes are."""
        return self.start_command(*arguments, **options).complete()

    def environment(self) -> dict[str, str]:
        """Return the environment of a program that uses the nodes."""
        found = {**os.environ, **self._environment}
        found.pop("IMGINDEX_DIR", None)
        return found

    def start_command(self, *arguments: str | Path, **options: Any) -> Running:
        """Start the command line where the nodes are; `by`: the command that starts it.

        commits_at_once: whether it commits each batch at once, not after half a second, so that a test sees the middle.
        """
        by = options.pop("by", ())
        module = ("-c", COMMITS_AT_ONCE) if options.pop("commits_at_once", False) else ("-m", "imgindex")
        options = {"cwd": self.folder} | options
        return Running(
            self.inside(*by, sys.executable, *module, *arguments),
            env=self.environment(),
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **options,
        )

    def close(self) -> None:
        """End all nodes, and what they started; raise AssertionError if something has to be killed."""
        started = {pid for node in self._nodes.values() for pid in children(node.pid)}
        for node in reversed(self._nodes.values()):
            _kill(node.pid, signal.SIGTERM)
        end = time.monotonic() + END
        while left := [pid for pid in started if is_running(pid)]:
            if time.monotonic() > end:
                break
            time.sleep(0.1)
        for pid in left:
            _kill(pid, signal.SIGKILL)
        for node in self._nodes.values():
            node.wait(END)
        self._namespace.kill()
        self._namespace.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pids(self, number: int) -> list[int]:
        """The ids of a node's processes."""
        return children(self._nodes[number].pid)

    def processes(self) -> list[str]:
        """The command lines of all processes where the nodes are, but for the nodes' own."""
        own = {pid for node in self._nodes.values() for pid in children(node.pid)} | {self._namespace.pid}
        namespace = os.readlink(f"/proc/{self._namespace.pid}/ns/net")
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if int(folder.name) not in own and os.readlink(folder / "ns/net") == namespace:
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        return found


class Running(subprocess.Popen[str]):
    """A command that runs."""

    def complete(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end, and return what it printed."""
        out, err = self.communicate(timeout=300)
        return subprocess.CompletedProcess(self.args, self.returncode, out, err)


def answer(done: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    """Return the JSON that a command printed."""
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def children(pid: int) -> list[int]:
    """Return a process and all that it started, directly or not."""
    found = [pid]
    for one in found:
        with suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
