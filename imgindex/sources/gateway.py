"""A gateway in this process that connects obstore to the servers that the user named, and to no others.

obstore follows redirects wherever they lead, and has no option against it. Therefore its requests go through this
gateway as through a proxy. A redirect to another server is another request, which the gateway does not let out.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Sequence
from urllib.parse import urlsplit

# The word by which the gateway's answer is recognised; obstore puts the body of an answer into its error.
REFUSED = "RedirectedToAnotherServer"
# A word of obstore's error when a proxy does not connect it to a server with TLS.
NO_TUNNEL = "TunnelUnsuccessful"
CONNECT_SECONDS = 5.0
# Bytes of the head of a request, at most; signatures are long.
LONGEST_HEAD = 1 << 16
# The environment's own proxies, in small letters too. Where one is set, it decides where requests may go.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
DEFAULT_PORTS = {"http": 80, "https": 443}

Server = tuple[str, int]


class Gateway:
    """Accepts connections on 127.0.0.1 in a thread of its own, and connects them to named servers.

    It keeps nothing. TLS stays between obstore and the server.
    """

    def __init__(self) -> None:
        self._named: set[Server] = set()
        self._lock = threading.Lock()
        self._process = 0
        self._port = 0
        self._has_refused = False

    def address_for(self, endpoints: Sequence[str]) -> str | None:
        """Return the address of the gateway, which connects to these endpoints from now on.

        None without an endpoint, and where the environment names a proxy.
        """
        if not endpoints or any(os.environ.get(name) or os.environ.get(name.lower()) for name in PROXIES):
            return None
        self._named.update(server for server in map(_server, endpoints) if server is not None)
        with self._lock:
            # A child process does not have the threads of its parent.
            if self._process != os.getpid():
                listening = socket.create_server(("127.0.0.1", 0))
                self._port, self._process = listening.getsockname()[1], os.getpid()
                threading.Thread(
                    target=asyncio.run, args=(self._serve(listening),), name="imgindex-gateway", daemon=True
                ).start()
        return f"http://127.0.0.1:{self._port}"

    def explains(self, error: str) -> bool:
        """Return whether the text of an error of obstore means that the gateway refused a request."""
        return REFUSED in error or (NO_TUNNEL in error and self._has_refused)

    def may_reach(self, server: Server) -> bool:
        """Return whether a request to a server is let out."""
        is_named = server in self._named
        self._has_refused |= not is_named
        return is_named

    async def _serve(self, listening: socket.socket) -> None:
        server = await asyncio.get_running_loop().create_server(lambda: _Client(self), sock=listening)
        await server.serve_forever()


class _Side(asyncio.Protocol):
    """One of the two connections that are joined; what arrives here leaves through the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _Client(_Side):
    """The side of obstore, which reads heads of requests, and joins the server of the first.

    obstore keeps a connection for each server; a request for another one ends the connection. It only asks, so requests
    have no bodies.
    """

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self._gateway = gateway
        self._waiting = b""
        self._server: Server | None = None
        self._is_tunnel = False
        self._joining: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        if self._is_tunnel and self.other is not None:
            super().data_received(data)
            return
        self._waiting += data
        if self._server is None and b"\r\n\r\n" in self._waiting:
            self._joining = asyncio.ensure_future(self._join())
        elif self.other is not None:
            self._forward()
        elif len(self._waiting) > LONGEST_HEAD:
            self._end()

    async def _join(self) -> None:
        method, target, _ = _request_line(self._waiting)
        self._is_tunnel = method == "CONNECT"
        self._server = _server(f"https://{target}" if self._is_tunnel else target)
        if self._server is None or not self._gateway.may_reach(self._server):
            body = f"<Error><Code>{REFUSED}</Code></Error>".encode()
            self._end(b"HTTP/1.1 421 Misdirected Request\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            return
        connecting = asyncio.get_running_loop().create_connection(_Side, *self._server)
        try:
            transport, side = await asyncio.wait_for(connecting, CONNECT_SECONDS)
        except (OSError, asyncio.TimeoutError):
            self._end()  # as if the server had done it
            return
        if self.transport is None or self.transport.is_closing():
            transport.close()
            return
        side.other, self.other = self, side
        if self._is_tunnel:
            self._waiting = self._waiting.partition(b"\r\n\r\n")[2]
            self.transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            self._forward()

    def _forward(self) -> None:
        """Send the requests that have arrived to the server, each with a path in place of an address."""
        while b"\r\n\r\n" in self._waiting:
            method, target, version = _request_line(self._waiting)
            if _server(target) != self._server:
                self._end()
                return
            parts = urlsplit(target)
            path = target[target.index(parts.netloc) + len(parts.netloc) :] or "/"
            head, _, self._waiting = self._waiting.partition(b"\r\n\r\n")
            headers = head.partition(b"\r\n")[2]
            super().data_received(f"{method} {path} {version}\r\n".encode("latin-1") + headers + b"\r\n\r\n")

    def _end(self, answer: bytes = b"") -> None:
        if self.transport is not None:
            self.transport.write(answer)
            self.transport.close()


def _request_line(head: bytes) -> tuple[str, str, str]:
    """Return the method, the target and the version of a request."""
    method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    target, _, version = rest.partition(" ")
    return method, target, version


def _server(address: str) -> Server | None:
    """Return the host and the port of an address; None if it has none."""
    try:
        parts = urlsplit(address)
        return (parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme, 80)) if parts.hostname else None
    except ValueError:
        return None
