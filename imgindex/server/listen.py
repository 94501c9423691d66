"""Opens the socket and runs the server on it: slow headers are cut off, and Ctrl-C ends it at once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import stat
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from imgindex.errors import AddressTaken, UsageError
from imgindex.server.guard import App

# The port that is tried where none is asked for.
PORT = 8737
# Seconds in which the headers of a request have to be here.
HEADER_SECONDS = 10.0
# Connections and requests at once; more are answered with 503.
MOST_CONNECTIONS = 64
# Seconds that responses which are being sent may take after Ctrl-C.
LAST_SECONDS = 0.2


def open_port(host: str, port: int | None) -> socket.socket:
    """Return a listening socket; port: None for the usual one, or any other if that is taken.

    Raises AddressTaken, UsageError for an address that this machine does not have.
    """
    try:
        return _bound(host, PORT if port is None else port)
    except AddressTaken:
        if port is not None:
            raise
        return _bound(host, 0)


def open_unix_socket(path: str) -> socket.socket:
    """Return a listening socket at a path, which only this user may connect to.

    A socket that a server left behind is replaced. Raises AddressTaken, UsageError.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise UsageError(f"{path} exists and is not a socket", hint="name a new path")
        with socket.socket(socket.AF_UNIX) as other:
            try:
                other.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)  # its server has ended
            else:
                raise AddressTaken(f"another program listens at {path}")
    listening = socket.socket(socket.AF_UNIX)
    try:
        # The permissions of the file at the moment that it appears.
        before = os.umask(0o177)
        try:
            listening.bind(path)
        finally:
            os.umask(before)
        listening.listen(MOST_CONNECTIONS)
    except OSError as error:
        listening.close()
        raise UsageError(f"cannot listen at {path}: {error.strerror or error}", hint="name another path") from error
    return listening


def serve(app: App, listening: socket.socket) -> None:
    """Answer requests until Ctrl-C or SIGTERM."""
    make_server(app).run(sockets=[listening])


def make_server(app: App) -> Server:
    """Return a server of an application, with all limits."""
    config = uvicorn.Config(
        app,
        http=DeadlineProtocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        h11_max_incomplete_event_size=32 << 10,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
    )
    return Server(config)


class Server(uvicorn.Server):
    """A server that Ctrl-C ends as something ordinary: the signal is not raised again afterwards."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while the server runs, as the loop does."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals reach the main thread only
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end: streams of events are cut off, other responses may take a moment."""
        if not self.should_exit:
            self.should_exit = True
            asyncio.get_running_loop().call_later(LAST_SECONDS, self._cut_off)

    def _cut_off(self) -> None:
        self.force_exit = True
        for connection in list(self.server_state.connections):
            connection.transport.abort()


class DeadlineProtocol(H11Protocol):
    """HTTP/1.1 in which the headers of a request have to be here within some seconds. uvicorn itself has no limit."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._begin_deadline()

    def data_received(self, data: bytes) -> None:
        """Read a part of a request."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is before and (before is None or before.response_complete):
            if self._deadline is None:
                self._begin_deadline()
        else:
            self._end_deadline()

    def on_response_complete(self) -> None:
        """Begin to wait for a next request whose beginning is here already."""
        super().on_response_complete()
        if self.conn.trailing_data[0] and self.cycle.response_complete and self._deadline is None:
            self._begin_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._end_deadline()
        super().connection_lost(exc)

    def _begin_deadline(self) -> None:
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        self.transport.abort()


def _bound(host: str, port: int) -> socket.socket:
    try:
        ((family, kind, protocol, _, address), *_) = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise UsageError(
            f"{host!r} is not an address: {error.strerror}", hint="give an address such as 127.0.0.1"
        ) from error
    listening = socket.socket(family, kind, protocol)
    try:
        # Otherwise the port of a server that ended a moment ago could not be used for a minute.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(MOST_CONNECTIONS)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressTaken(f"another program uses port {port} of {host}") from error
        raise UsageError(
            f"cannot listen at {host}, port {port}: {error.strerror}", hint="choose another port"
        ) from error
    return listening
