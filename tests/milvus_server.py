"""A real Milvus server for tests, in a network of its own: it listens at every address, so only a loopback is there.

The server starts once for all processes that run tests, and ends by itself when no process uses it any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# The address of a newer server, such as http://127.0.0.1:19530, that is asked instead.
VARIABLE = "IMGINDEX_TEST_MILVUS"
START = 300.0
# The server reads them from its environment. By default one that was killed waits 30 seconds for its own lease, a
# strongly consistent query 200 ms, and a collection that is loaded or indexed seconds for the next look at it. A lease
# of 5 seconds expires on a busy machine, and then the server ends.
SETTINGS = {
    "COMMON_SESSION_TTL": 15,
    "PROXY_TIMETICKINTERVAL": 50,
    "QUERYCOORD_CHECKCHANNELINTERVAL": 100,
    "QUERYCOORD_CHECKSEGMENTINTERVAL": 100,
    "QUERYCOORD_CHECKHANDOFFINTERVAL": 500,
    "QUERYCOORD_DISTPULLINTERVAL": 100,
    "QUERYCOORD_LEADERVIEWUPDATEINTERVAL": 100,
    "QUERYCOORD_UPDATENEXTTARGETINTERVAL": 1,
    "QUOTAANDLIMITS_ENABLED": "false",
}
SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40
UNSHARE = ("unshare", "--net") if os.geteuid() == 0 else ("unshare", "--map-root-user", "--net")


def why_not() -> str | None:
    """Return why no server can be had on this machine; None where one can."""
    if importlib.util.find_spec("pymilvus") is None:
        return "pymilvus is not installed"
    if os.environ.get(VARIABLE):
        return None
    if importlib.util.find_spec("milvus") is None:
        return f"the package milvus is not installed, and {VARIABLE} names no server"
    if (
        shutil.which(UNSHARE[0]) is None
        or subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode
    ):
        return f"no network can be made for the server, and {VARIABLE} names none"
    return None


def rows_of(address: str) -> dict[int, int]:
    """Return what a collection has at this moment: id → CRC32. address: milvus://HOST:PORT/COLLECTION."""
    with _client(address) as (client, name):
        found = client.query(
            name,
            filter="id >= 0",
            output_fields=["id", "crc32"],
            limit=16_384,
            consistency_level="Strong",
            timeout=START,
        )
        return {row["id"]: row["crc32"] for row in found}


def described(address: str) -> str:
    """Return the description of a collection."""
    with _client(address) as (client, name):
        return str(client.describe_collection(name, timeout=START)["description"])


@contextlib.contextmanager
def _client(address: str) -> Iterator[tuple[Any, str]]:
    from pymilvus import MilvusClient

    place, _, name = address.removeprefix("milvus://").partition("/")
    with contextlib.closing(MilvusClient(uri=f"http://{place}", timeout=START, dedicated=True)) as client:
        yield client, name


class MilvusProcess:
    """A server in a folder, and the port of 127.0.0.1 at which it can be asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def port(self) -> int:
        return int((self.folder / "port").read_text())

    @property
    def pid(self) -> int:
        """The process of the server itself; another one after each restart."""
        return int((self.folder / "pid").read_text())

    def kill(self) -> None:
        """Kill the server, which is not started again before `restart`."""
        for name in ("restart", "ready"):
            (self.folder / name).unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGKILL)

    def restart(self) -> None:
        """Start the server if it was killed, and wait until it answers.

        Its port is open long before: it waits for the lease of the one that was killed, and loads its collections.
        """
        if (self.folder / "ready").exists():
            return
        (self.folder / "restart").touch()
        self.wait()
        deadline = time.monotonic() + START
        while not _answers(self.port):
            if time.monotonic() > deadline:
                raise AssertionError((self.folder / "log").read_text(errors="replace")[-2000:])
            time.sleep(1)

    def wait(self) -> None:
        deadline = time.monotonic() + START
        while not (self.folder / "ready").exists():
            if time.monotonic() > deadline or (self.folder / "failed").exists():
                raise AssertionError((self.folder / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.1)


def _answers(port: int) -> bool:
    """Return whether a server answers queries to all of its collections."""
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    try:
        with contextlib.closing(MilvusClient(uri=f"http://127.0.0.1:{port}", timeout=5, dedicated=True)) as client:
            for name in client.list_collections(timeout=5):
                client.query(name, filter="id >= 0", limit=1, consistency_level="Strong", timeout=5)
    except MilvusException:
        return False
    return True


Addresses = Callable[[], str]


@contextlib.contextmanager
def addresses(folder: Path) -> Iterator[Addresses]:
    """Lend a function that returns the addresses of new collections, and drop these collections at the end."""
    from pymilvus import MilvusClient

    place = os.environ.get(VARIABLE, "").partition("://")[2].rstrip("/") or f"127.0.0.1:{MilvusProcess(folder).port}"
    names: list[str] = []

    def address() -> str:
        names.append(f"imgindex_test_{uuid.uuid4().hex}")
        return f"milvus://{place}/{names[-1]}"

    yield address
    with contextlib.closing(MilvusClient(uri=f"http://{place}", timeout=START)) as client:
        for name in names:
            client.drop_collection(name, timeout=START)


@contextlib.contextmanager
def using(folder: Path) -> Iterator[MilvusProcess]:
    """Use the server in a folder that all processes of a test run share; the first one starts it."""
    folder.mkdir(exist_ok=True)
    server = MilvusProcess(folder)
    if os.environ.get(VARIABLE):
        yield server
        return
    with contextlib.ExitStack() as stack:
        users = stack.enter_context(open(folder / "users", "a"))
        starting = stack.enter_context(open(folder / "starting", "a"))
        fcntl.flock(starting, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)
        if not (folder / "ready").exists():
            _start(folder)
            server.wait()
        fcntl.flock(starting, fcntl.LOCK_UN)
        yield server


def _start(folder: Path) -> None:
    """Start a process in a network of its own, which runs the server and passes connections to it."""
    # A socket stays in the network in which it was made: connections of this one reach a process in the other one.
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener, open(folder / "log", "ab") as log:
        (folder / "port").write_text(str(listener.getsockname()[1]))
        process = subprocess.Popen(
            [*UNSHARE, sys.executable, __file__, str(folder), str(listener.fileno())],
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # It ends when no process uses the server. Python would complain that it still runs.
    process.returncode = 0


def serve(folder: Path, listener: socket.socket) -> None:
    """Run the server until no process uses it; start it again when a test that killed it asks for that."""
    from milvus import MilvusServer

    # The only interface of a new network is the loopback, which is down.
    with contextlib.closing(socket.socket()) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP | IFF_RUNNING))
    server = MilvusServer()
    server.set_base_dir(str(folder / "data"))
    os.environ.update({name: str(value) for name, value in SETTINGS.items()})
    threading.Thread(target=_accept, args=(listener, server), daemon=True).start()
    try:
        _run(folder, server)
        with open(folder / "users", "a") as users:
            while not _is_unused(folder, users):
                time.sleep(0.2)
                if server.server_proc.poll() is not None and (folder / "restart").exists():
                    server.server_proc = None
                    _run(folder, server)
    except BaseException:
        (folder / "failed").touch()
        raise
    finally:
        if server.server_proc is not None:
            server.server_proc.kill()
            server.server_proc.wait()
        shutil.rmtree(folder / "data", ignore_errors=True)


def _run(folder: Path, server: Any) -> None:
    server.start()
    (folder / "pid").write_text(str(server.server_proc.pid))
    (folder / "ready").touch()


def _is_unused(folder: Path, users: object) -> bool:
    """Return whether no process uses the server; none can begin to afterwards without starting another one."""
    with open(folder / "starting", "a") as starting:
        try:
            fcntl.flock(starting, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[arg-type]
        except BlockingIOError:
            return False
        (folder / "ready").unlink(missing_ok=True)
        return True


def _accept(listener: socket.socket, server: Any) -> None:
    while True:
        client, _ = listener.accept()
        try:
            # It has another port when it is started again while the first one still has connections that end.
            connected = socket.create_connection(("127.0.0.1", server.listen_port))
        except OSError:
            client.close()
            continue
        for one, other in ((client, connected), (connected, client)):
            threading.Thread(target=_pass, args=(one, other), daemon=True).start()


def _pass(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(1 << 18):
            other.sendall(data)
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    one.close()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
