"""Runs the server of an index: in this process behind a client, at a port in a thread, or as the command."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from imgindex.server.app import build_app
from imgindex.server.listen import make_server, open_port

TOKEN = "the token of the tests"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
ROOT = Path(__file__).parent.parent


@contextlib.contextmanager
def client_of(index: Path, **options: Any) -> Iterator[httpx.Client]:
    """Serve an index in a thread, and lend a client with the token."""
    app, close = build_app(str(index), token=TOKEN, **options)
    try:
        with (
            at_a_port(app) as port,
            httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", headers=AUTHORIZED, timeout=60) as client,
        ):
            yield client
    finally:
        close()


def at(client: httpx.Client, path: str) -> httpx.URL:
    """The address of a path that does not begin with /api/v1, to the byte."""
    return client.base_url.copy_with(raw_path=path.encode())


@contextlib.contextmanager
def at_a_port(app: Any) -> Iterator[int]:
    """Serve an application in a thread, and lend its port."""
    listening = open_port("127.0.0.1", None)
    server = make_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


class Running:
    """The command `imgindex serve`, and what it printed first."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.url = process.stdout.readline().strip()
        self.address, _, self.token = self.url.partition("/#token=")

    def client(self, **options: Any) -> httpx.Client:
        """A client with the token."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=f"{self.address}/api/v1", headers=headers, timeout=60, **options)

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """Press Ctrl-C; return the exit code, what else it printed, and its remarks."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@contextlib.contextmanager
def running(folder: Path, *options: str, **settings: Any) -> Iterator[Running]:
    """Run the command in a folder with an index, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "imgindex", "serve", "--no-browser", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **settings,
    )
    try:
        yield Running(process)
    finally:
        process.kill()
        process.communicate()
