"""A real S3 server for tests: SeaweedFS on 127.0.0.1, in a folder of its own, ended by its process id."""

from __future__ import annotations

import http
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

KEY, SECRET = "a-key-of-the-tests", "a-secret-of-the-tests"
IDENTITIES = {
    "identities": [
        {
            "name": "tests",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {"name": "anonymous", "actions": ["Read:public", "List:public"]},
    ]
}
PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
         "s3.port", "s3.port.grpc")  # fmt: skip
START = 60.0
OPTIONS = ("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0",
           "-master.volumeSizeLimitMB=64", "-master.telemetry=false", "-volume.preStopSeconds=0", "-volume.max=500",
           "-volume.minFreeSpacePercent=0")  # fmt: skip


def find_weed() -> str | None:
    """Return the server's program; None where its package is not installed."""
    return shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


def free_ports(number: int) -> list[int]:
    """Return ports of 127.0.0.1 that nothing listens at."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class ObjectStore:
    """One server; it can be stopped and started again with the same objects."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.endpoint = f"http://127.0.0.1:{self.ports['s3.port']}"
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "data").mkdir()
        (folder / "s3.json").write_text(json.dumps(IDENTITIES))

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a program finds the server."""
        return {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": self.endpoint}

    def start(self) -> None:
        """Start the server, and wait until it keeps objects."""
        ports = [f"-{name}={port}" for name, port in self.ports.items()]
        places = {
            "dir": "data", "s3.config": "s3.json", "filer.localSocket": "filer.sock", "s3.localSocket": "s3.sock",
        }  # fmt: skip
        files = [f"-{name}={self.folder / place}" for name, place in places.items()]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [find_weed() or "weed", "-v=0", "server", *OPTIONS, *ports, *files],
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START
        while True:
            with suppress(OSError):
                self.make_bucket("public")
                self.put("public", "started", b"started")
                return
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError((self.folder / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.1)

    def stop(self, by: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(by)
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        # It leaves sockets, in the name of which are its ports.
        for port in self.ports.values():
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)

    # Buckets and objects, by the port that needs no signatures.

    def make_bucket(self, name: str) -> None:
        try:
            self._ask("POST", f"buckets/{name}/")
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.CONFLICT:  # it is there already
                raise

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Write an object by S3, so that it has the ETag of an object."""
        from obstore.store import S3Store

        try:
            self._client(S3Store, bucket).put(key, data)
        except Exception as error:
            raise OSError(str(error)) from error

    def put_folder(self, bucket: str, folder: Path) -> None:
        """Write the files below a folder to a bucket of that name."""
        self.make_bucket(bucket)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(bucket, path.relative_to(folder).as_posix(), path.read_bytes())

    def delete(self, bucket: str, key: str) -> None:
        from obstore.store import S3Store

        self._client(S3Store, bucket).delete(key)

    def _client(self, kind: Any, bucket: str) -> Any:
        return kind(
            bucket,
            endpoint=self.endpoint,
            access_key_id=KEY,
            secret_access_key=SECRET,
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )

    def _ask(self, method: str, path: str) -> None:
        address = f"http://127.0.0.1:{self.ports['filer.port']}/{path}"
        with urllib.request.urlopen(urllib.request.Request(address, method=method), timeout=10):
            pass


@contextmanager
def running(folder: Path) -> Iterator[ObjectStore]:
    """Run a server in a folder, which must be empty."""
    store = ObjectStore(folder)
    try:
        store.start()
        yield store
    finally:
        store.stop()


class Relay:
    """Passes bytes between a client and a server, and counts the requests by method and path; it can be cut."""

    def __init__(self, port: int) -> None:
        self.requests: list[str] = []
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._cut_at: int | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def seen(self, pattern: str) -> list[str]:
        """The requests, such as "GET /bucket/a.jpg", that a regular expression matches."""
        return [request for request in self.requests if re.match(pattern, request)]

    def cut_after(self, requests: int) -> None:
        """Close every connection, and accept no other, when so many requests more were seen."""
        self._cut_at = len(self.requests) + requests

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                client.close()
                continue
            self._open |= {client, server}
            for one, other, note in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass, args=(one, other, note), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, note: bool) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                if note and (match := re.match(rb"[A-Z]+ \S+", data)):
                    self.requests.append(match[0].decode())
                    if self._cut_at is not None and len(self.requests) > self._cut_at:
                        self.close()
                        break
                other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        one.close()
        self._open.discard(one)


def without_credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a test starts from: nothing of the person who runs it."""
    return {name: value for name, value in environment.items() if not name.startswith(("AWS_", "GOOGLE_", "AZURE_"))}
