"""Workers on the nodes of a Ray cluster, as the rest of imgindex sees them: started, given work, replaced when lost.

Each node has one worker, which takes its CPUs; a node with GPUs has one for each. A node that joins later gets workers
too. This file does not import ray: a process of its own does (`ray_process.py`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import logging
import multiprocessing
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from imgindex._version import VERSION
from imgindex.errors import ClusterUnavailable, ExtraMissing, UsageError

log = logging.getLogger(__name__)

LOCAL = "local"
# Seconds in which the cluster has to answer, and in which a first worker has to get its CPUs.
ANSWER_SECONDS, CLAIM_SECONDS = 30.0, 30.0
KNOCK_SECONDS = 10.0
# A Ray of this machine is started first, which takes most of this on a busy machine.
LOCAL_SECONDS = 90.0
# How often nodes are listed: a new one gets a worker, and so does one whose worker died.
LIST_SECONDS = 5.0
# A node whose workers die so often gets no other.
DEATHS = 3
# Seconds in which the process that is connected to Ray has to end; it gives Ray half of them.
END_SECONDS = 20.0
# Ray makes sockets in its folder, whose paths may have 107 bytes; that of temporary files may be long.
SHORT_FOLDER = "/tmp" if os.path.isdir("/tmp") else None
# So that the interpreter takes no module from the current folder, it gets the path of this one first.
START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); from imgindex.nodes.ray_process import main; main()"
)


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster, with what it can give."""

    id: str
    address: str
    cpus: int
    gpus: int


@dataclass(slots=True)
class Worker:
    """A worker on a node; `info` is what it said of itself when it was ready, None before."""

    key: int
    node: Node
    claimed: bool = False
    info: Any = None
    tickets: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker can be given work."""

    worker: Worker


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call returned."""

    worker: Worker
    ticket: int
    value: Any


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker died; its calls have no answer."""

    worker: Worker
    tickets: tuple[int, ...]
    reason: str


Event = Ready | Answer | Lost


def check_address(address: str) -> str:
    """Return an address of a cluster: HOST:PORT, or local. Raises UsageError; ExtraMissing without Ray."""
    if address != LOCAL and not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):\d{1,5}", address):
        raise UsageError(
            f"{address!r} is not the address of a Ray cluster", hint="write it as HOST:PORT, or local for this machine"
        )
    if importlib.util.find_spec("ray") is None:
        raise ExtraMissing("working on a cluster needs Ray, which is not installed", hint="pip install 'imgindex[ray]'")
    return address


class Cluster:
    """The workers of one task on the nodes of a cluster. Use it in a `with` block, in one thread.

    work: the class of what each worker holds, as "module:class"; its methods are called by name, and `describe` says
    what the worker is. options: its parameters. cpus: how many each node gives at most; None for all. use_gpus: whether
    to take the nodes' GPUs. concurrency: calls that a worker runs at once.
    """

    def __init__(
        self,
        address: str,
        work: str,
        options: Mapping[str, Any],
        *,
        cpus: int | None = None,
        use_gpus: bool = False,
        concurrency: int = 1,
    ) -> None:
        self.address = check_address(address)
        self.workers: dict[int, Worker] = {}
        self._work, self._options = work, dict(options)
        self._cpus, self._use_gpus, self._concurrency = cpus, use_gpus, concurrency
        self._numbers = itertools.count(1)
        self._holding: dict[int, Worker] = {}
        self._events: list[Event] = []
        self._deaths: dict[str, int] = {}
        self._refused: dict[str, str] = {}
        self._is_connected = False
        self._free = 0
        self._listed, self._is_asked, self._asked = False, False, 0.0
        self._without_worker = 0.0
        self._pipe: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @property
    def ready(self) -> list[Worker]:
        """The workers that can be given work."""
        return [worker for worker in self.workers.values() if worker.info is not None]

    @property
    def nodes(self) -> int:
        """On how many nodes there are such workers."""
        return len({worker.node.id for worker in self.ready})

    def call(self, worker: Worker, method: str, *arguments: Any) -> int:
        """Call a method of what a worker holds; return the ticket that the `Answer` will have."""
        ticket = next(self._numbers)
        worker.tickets.add(ticket)
        self._send("call", ticket, worker.key, method, arguments)
        return ticket

    def end(self, worker: Worker) -> None:
        """End a worker that is not needed any more."""
        self.workers.pop(worker.key, None)
        self._send("end", worker.key)

    def events(self, seconds: float) -> list[Event]:
        """Return what happened, within so many seconds at most; nothing if nothing did.

        Raises ClusterUnavailable when the cluster is lost, or has no worker for CLAIM_SECONDS; what a call raised.
        """
        if self._process is None:
            raise ClusterUnavailable("the cluster was left")
        self._list_nodes()
        end = time.monotonic() + seconds
        while not self._events:
            left = end - time.monotonic()
            if not self._receive(max(0.0, left)) and left <= 0:
                break
        while self._receive(0.0):
            pass
        self._check_workers()
        found, self._events = self._events, []
        return found

    def close(self) -> None:
        """End the workers and the connection; calls that are not answered are given up."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            try:
                # A Ray of this machine needs the time to end its processes; other clusters may not answer any more.
                self._process.wait(END_SECONDS if self._is_connected or self.address == LOCAL else 0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._folder.cleanup()
        self._pipe = self._process = self._folder = None

    def _start(self) -> None:
        """Start the process that is connected to Ray, and wait until it is."""
        if self.address != LOCAL:
            self._knock()
        self._pipe, theirs = multiprocessing.Pipe()
        # Also its current folder: Ray's workers would import modules from there.
        self._folder = tempfile.TemporaryDirectory(prefix="imgindex-ray-", dir=SHORT_FOLDER, ignore_cleanup_errors=True)
        path = [os.path.abspath(entry) for entry in sys.path if entry]
        environment = os.environ | {
            "RAY_USAGE_STATS_ENABLED": "0",
            "IMGINDEX_CPUS": str(self._cpus or _core_count()),
        }
        if self.address == LOCAL:
            environment["PYTHONPATH"] = os.pathsep.join(path)
            environment |= self._token()
        arguments = [str(theirs.fileno()), self.address, self._folder.name]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", START, json.dumps(path), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd=self._folder.name,
                env=environment,
                # Ctrl-C in a terminal must reach only this process: what is in flight is finished.
                start_new_session=True,
            )
        seconds = LOCAL_SECONDS if self.address == LOCAL else ANSWER_SECONDS
        if not self._pipe.poll(seconds):
            raise self._unavailable(f"does not answer within {seconds:.0f} s")
        self._receive(0.0)
        self._without_worker = time.monotonic()

    def _knock(self) -> None:
        """Raise ClusterUnavailable where nothing listens: Ray would try again for half a minute."""
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise self._unavailable(f"does not answer: {reason}") from None

    def _token(self) -> dict[str, str]:
        """Return the variables by which a Ray of this machine refuses other users, who could run programs by it.

        By itself Ray keeps its token in the home folder, where it changes how every later Ray starts.
        """
        assert self._folder is not None
        path = os.path.join(self._folder.name, "token")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": path}

    def _list_nodes(self) -> None:
        now = time.monotonic()
        if not self._is_asked and now - self._asked >= LIST_SECONDS:
            self._is_asked, self._asked = True, now
            self._send("nodes")

    def _receive(self, seconds: float) -> bool:
        """Handle one event of the process that is connected to Ray; return whether there was one."""
        assert self._pipe is not None
        try:
            if not self._pipe.poll(seconds):
                return False
            kind, *values = self._pipe.recv()
        except (EOFError, OSError):
            raise self._unavailable("was lost") from None
        getattr(self, f"_on_{kind}")(*values)
        return True

    def _on_connected(self) -> None:
        self._is_connected = True

    def _on_refused(self, reason: str) -> None:
        raise self._unavailable(f"cannot be used: {' '.join(reason.split())[:300]}")

    def _on_nodes(self, nodes: Sequence[tuple[str, str, float, float]], free: float) -> None:
        self._listed, self._is_asked, self._free = True, False, int(free)
        found = [Node(id, address, int(cpus), int(gpus)) for id, address, cpus, gpus in nodes]
        taken = {worker.node.id for worker in self.workers.values()}
        for node in found:
            if node.id in taken or node.id in self._refused or self._deaths.get(node.id, 0) >= DEATHS:
                continue
            for cpus, gpus in self._shares(node):
                worker = Worker(next(self._numbers), node)
                self.workers[worker.key] = worker
                self._send("start", worker.key, node.id, cpus, gpus, self._concurrency)

    def _shares(self, node: Node) -> Iterator[tuple[int, int]]:
        """Yield the CPUs and GPUs of each worker of a node."""
        cpus = node.cpus if self._cpus is None else min(self._cpus, node.cpus)
        if self._use_gpus and node.gpus:
            yield from itertools.repeat((cpus // node.gpus, 1), node.gpus)
        elif cpus:
            yield cpus, 0

    def _on_alive(self, key: int) -> None:
        worker = self.workers.get(key)
        if worker is not None:
            worker.claimed = True
            ticket = self.call(worker, "hold", VERSION, self._work, self._options)
            self._holding[ticket] = worker

    def _on_answer(self, ticket: int, value: tuple[str, Any]) -> None:
        kind, result = value
        holding = self._holding.pop(ticket, None)
        worker = holding or next((one for one in self.workers.values() if ticket in one.tickets), None)
        if worker is None or worker.key not in self.workers:
            return
        worker.tickets.discard(ticket)
        if kind == "raised":
            result.args = (f"{result} (on node {worker.node.address})", *result.args[1:])
            raise result
        if kind == "broken":
            raise RuntimeError(f"on node {worker.node.address}: {result}")
        if holding is None:
            self._events.append(Answer(worker, ticket, result))
        elif kind == "refused":
            log.warning("node %s is left out: %s", worker.node.address, result)
            self._refused[worker.node.id] = result
            self.end(worker)
        else:
            worker.info = result
            self._events.append(Ready(worker))

    def _on_lost(self, key: int, reason: str) -> None:
        worker = self.workers.pop(key, None)
        if worker is None:
            return
        self._deaths[worker.node.id] = self._deaths.get(worker.node.id, 0) + 1
        log.info("a worker on node %s was lost: %s", worker.node.address, reason)
        tickets = tuple(sorted(worker.tickets - self._holding.keys()))
        self._events.append(Lost(worker, tickets, reason))

    def _check_workers(self) -> None:
        """Raise ClusterUnavailable when no worker has been there, or been starting, for too long."""
        now = time.monotonic()
        if any(worker.claimed for worker in self.workers.values()):
            self._without_worker = now
        elif self._listed and self._refused and not self.workers:
            reasons = sorted(set(self._refused.values()))
            raise ClusterUnavailable(
                f"no node of the Ray cluster {self.address} can work for this machine: {'; '.join(reasons)}",
                hint="install the same version of imgindex on the nodes, with the weights at the same path",
            )
        elif now - self._without_worker > CLAIM_SECONDS:
            if self._is_asked and now - self._asked > LIST_SECONDS:
                raise self._unavailable("does not answer any more")
            wanted = ", ".join(f"{w.node.cpus} of {w.node.address}" for w in self.workers.values())
            reason = f"gave no worker its CPUs within {CLAIM_SECONDS:.0f} s: {self._free} are free" + (
                f", wanted are {wanted}" if wanted else ", and no node has any"
            )
            raise ClusterUnavailable(
                f"the Ray cluster {self.address} {reason}",
                hint="`ray status` shows what uses them; end it, or take fewer with `workers=N`",
            )

    def _send(self, *request: Any) -> None:
        assert self._pipe is not None
        try:
            self._pipe.send(request)
        except OSError:
            raise self._unavailable("was lost") from None

    def _unavailable(self, what: str) -> ClusterUnavailable:
        self._is_connected = False
        return ClusterUnavailable(f"the Ray cluster {self.address} {what}")


def _core_count() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
