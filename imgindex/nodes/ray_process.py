"""The process that is connected to Ray: starts workers on nodes and passes calls on; the only file that imports ray.

The process that started it (`cluster.py`) sends requests through a pipe, and gets events through the same pipe:

    start KEY NODE CPUS GPUS CONCURRENCY   →   alive KEY, or lost KEY REASON
    call TICKET KEY METHOD ARGUMENTS       →   answer TICKET VALUE, or lost KEY REASON
    end KEY
    nodes                                  →   nodes LIST FREE

It ends when the pipe is closed, and the workers end with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

LOCAL = "local"
# Seconds in which Ray has to let go of the cluster.
END_SECONDS = 10.0
# Bytes that a Ray of this machine alone may keep in shared memory: answers are small.
LOCAL_STORE = 256 << 20


def main() -> None:
    """Serve the pipe whose descriptor is the first argument; the second is the address, the third a free folder."""
    pipe = Connection(int(sys.argv[1]))
    address, folder = sys.argv[2:4]
    try:
        _connect(address, folder)
    except Exception as error:  # noqa: BLE001  whatever Ray raises, the user gets its first line
        pipe.send(("refused", f"{type(error).__name__}: {error}"))
        return
    try:
        Requests(pipe).serve()
    finally:
        # A cluster that was lost is waited for without an end.
        end = threading.Timer(END_SECONDS, os._exit, (1,))
        end.daemon = True
        end.start()
        ray.shutdown()
        # The process that made it may have been killed.
        shutil.rmtree(folder, ignore_errors=True)


def _connect(address: str, folder: str) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "configure_logging": False}
    if address == LOCAL:
        # Ray listens to other machines only where its own address is one that they can reach.
        options |= {"num_cpus": int(os.environ["IMGINDEX_CPUS"]), "include_dashboard": False}
        options |= {"_node_ip_address": "127.0.0.1", "_temp_dir": folder, "object_store_memory": LOCAL_STORE}
    else:
        options["address"] = address
    ray.init(**options)


class Requests:
    """The workers that were asked for, and what they are asked to do."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.Lock()
        self._workers: dict[int, Any] = {}
        self._host = ray.remote(_host())

    def serve(self) -> None:
        """Do what the pipe asks for, until it is closed."""
        self._send("connected")
        while True:
            try:
                request, *arguments = self._pipe.recv()
            except (EOFError, OSError):
                return
            getattr(self, request)(*arguments)

    def start(self, key: int, node: str, cpus: float, gpus: float, concurrency: int) -> None:
        """Start a worker on a node; it is alive when the node has given it what it needs."""
        self._workers[key] = self._host.options(
            num_cpus=cpus,
            num_gpus=gpus,
            max_concurrency=concurrency,
            max_restarts=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        ).remote()
        self._when_done(key, self._workers[key].ping.remote(), lambda value: self._send("alive", key))

    def call(self, ticket: int, key: int, method: str, arguments: tuple[Any, ...]) -> None:
        """Call a method of a worker, or of what it holds."""
        worker = self._workers.get(key)
        if worker is not None:
            done = worker.call.remote(method, arguments)
            self._when_done(key, done, partial(self._send, "answer", ticket))

    def end(self, key: int) -> None:
        """End a worker, and give back what the node gave it."""
        worker = self._workers.pop(key, None)
        if worker is not None:
            with contextlib.suppress(Exception):  # it may have died
                ray.kill(worker)

    def nodes(self) -> None:
        """List the nodes that are there: id, address, CPUs and GPUs of each; and how many CPUs are free in all."""
        found = [
            (
                node["NodeID"],
                node["NodeManagerAddress"],
                node["Resources"].get("CPU", 0),
                node["Resources"].get("GPU", 0),
            )
            for node in ray.nodes()
            if node["Alive"]
        ]
        self._send("nodes", found, ray.available_resources().get("CPU", 0))

    def _when_done(self, key: int, reference: Any, send: Any) -> None:
        """Send the value of a reference when it is there, or that its worker is lost."""

        def done(future: Any) -> None:
            error = future.exception()
            if error is None:
                send(future.result())
            elif isinstance(error, ray.exceptions.RayTaskError):
                send(("broken", str(error).strip().splitlines()[-1]))
            elif self._workers.pop(key, None) is not None:
                self._send("lost", key, str(error).strip().splitlines()[0])

        reference.future().add_done_callback(done)

    def _send(self, *event: Any) -> None:
        # Ray calls from several threads. Without a reader this process is about to end.
        with self._lock, contextlib.suppress(OSError):
            self._pipe.send(event)


def _host() -> type:
    """Return the class of what runs on a node.

    It is made here so that Ray sends it by value: a node without imgindex, or with another version, can still say so.
    """

    class Host:
        def __init__(self) -> None:
            self._held: Any = None

        def ping(self) -> None:
            """Answer as soon as the node has started this worker."""

        def call(self, method: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
            if method == "hold":
                return self._hold(*arguments)
            from imgindex.errors import ImgindexError

            try:
                return "value", getattr(self._held, method)(*arguments)
            except ImgindexError as error:
                return "raised", error

        def _hold(self, version: str, path: str, options: dict[str, Any]) -> tuple[str, Any]:
            """Make the object `path`, module:class, of this version of imgindex."""
            from importlib import import_module

            try:
                import imgindex._version
            except ImportError as error:
                return "refused", f"imgindex is not installed there: {error}"
            if version != imgindex._version.VERSION:
                return "refused", f"imgindex is {imgindex._version.VERSION} there and {version} here"
            from imgindex.errors import ImgindexError

            module, _, name = path.partition(":")
            try:
                self._held = getattr(import_module(module), name)(**options)
            except ImgindexError as error:
                return "refused", f"{error}" + (f"; {error.hint}" if error.hint else "")
            return "value", self._held.describe()

    return Host


if __name__ == "__main__":
    main()
