"""Listening: ports, Unix sockets of one user, headers that do not come, many connections."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import at_a_port

from imgindex.errors import AddressTaken, UsageError
from imgindex.server import listen
from imgindex.server.listen import open_port, open_unix_socket


async def hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


def test_a_port_that_is_taken_is_an_error_if_it_was_asked_for_and_else_another_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open_port("127.0.0.1", None) as first:
        port = first.getsockname()[1]
        with pytest.raises(AddressTaken, match=f"port {port}"):
            open_port("127.0.0.1", port)
        monkeypatch.setattr(listen, "PORT", port)
        with open_port("127.0.0.1", None) as other:
            assert other.getsockname()[1] not in (0, port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "256.1.1.1"])
def test_an_address_that_this_machine_does_not_have_is_an_error(host: str) -> None:
    with pytest.raises(UsageError):
        open_port(host, 0)


def test_a_socket_is_for_this_user_alone_and_replaces_one_whose_server_has_ended(tmp_path: Path) -> None:
    path = str(tmp_path / "it.sock")
    with open_unix_socket(path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with pytest.raises(AddressTaken):
            open_unix_socket(path)
    assert os.path.exists(path)
    with open_unix_socket(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_file_is_not_replaced_by_a_socket(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"picture")
    with pytest.raises(UsageError, match="not a socket"):
        open_unix_socket(str(tmp_path / "a.jpg"))
    with pytest.raises(UsageError, match="cannot listen"):
        open_unix_socket(str(tmp_path / "none" / "it.sock"))
    assert (tmp_path / "a.jpg").read_bytes() == b"picture"


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: 127", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /"])
def test_a_connection_whose_headers_do_not_come_is_cut_off(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(listen, "HEADER_SECONDS", 0.3)
    with at_a_port(hello) as port, socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(sent)
        received = b""
        try:
            while part := connection.recv(65536):
                received += part
        except ConnectionResetError:
            pass
        assert received.count(b"hello") == sent.count(b"\r\n\r\n")


def test_a_connection_is_used_for_several_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "HEADER_SECONDS", 0.3)
    with at_a_port(hello) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        assert [client.get("/").text for _ in range(3)] == ["hello"] * 3


def test_more_connections_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "MOST_CONNECTIONS", 3)
    with at_a_port(hello) as port:
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 503
        for connection in idle:
            connection.close()
