"""The guard: each check refuses what it is for, alone; sizes and times of bodies; what browsers are told."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from bombs import large_png
from serving import AUTHORIZED, TOKEN, at, at_a_port, client_of

from imgindex.server import guard
from imgindex.server.guard import Guard
from imgindex.server.schema import ENDPOINTS

SHELL = ("/", "/assets/app.js", "/assets/style.css")


async def answered(headers: list[tuple[str, str]], path: str = "/api/v1/status", method: str = "GET") -> int:
    """The status of an answer of the guard around an application that answers everything."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    scope = {"type": "http", "method": method, "path": path, "headers": encoded}
    await Guard(app, token=TOKEN, allowed_hosts=["Photos.Lan"])(scope, receive, send)
    return int(sent[0]["status"])


def status(*headers: tuple[str, str], token: str = TOKEN, host: str = "127.0.0.1:8737", **options: Any) -> int:
    given = [("host", host), ("authorization", f"Bearer {token}"), *headers]
    return asyncio.run(answered([one for one in given if one[1]], **options))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9", "LOCALHOST", "[::1]:80", "127.8.8.8:1", "photos.lan:443"])
def test_this_machine_and_the_allowed_hosts_are_answered_for(host: str) -> None:
    assert status(host=host) == 200


@pytest.mark.parametrize(
    "host",
    ["evil.test", "evil.test:8737", "127.0.0.1.evil.test", "localhost.evil.test", "0.0.0.0", "169.254.169.254", "",
     "[::]", "evil.test#127.0.0.1", "127.0.0.1@evil.test", "photos.lan.evil.test", "2130706433"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/api/v1/status", *SHELL])
def test_another_host_is_refused_everywhere(host: str, path: str) -> None:
    assert status(host=host, path=path) == 421


def test_two_hosts_are_refused() -> None:
    assert status(("host", "127.0.0.1")) == 421


@pytest.mark.parametrize("path", ["/api/v1/status", "/api/v1/nothing", "/api/", "/api/v2/x"])
@pytest.mark.parametrize("token", ["", "x", TOKEN + "x", TOKEN[:-1], TOKEN.upper()])
def test_without_the_token_nothing_below_api_is_answered(path: str, token: str) -> None:
    assert asyncio.run(answered([("host", "localhost"), ("authorization", f"Bearer {token}")], path)) == 401
    assert asyncio.run(answered([("host", "localhost")], path)) == 401
    assert asyncio.run(answered([("host", "localhost"), ("authorization", f"Basic {TOKEN}")], path)) == 401


def test_two_tokens_are_refused() -> None:
    assert status(("authorization", f"Bearer {TOKEN}")) == 401


@pytest.mark.parametrize(
    "origin",
    ["http://evil.test", "null", "http://127.0.0.1:9999", "http://localhost:8737", "https://127.0.0.1:8737.evil.test",
     "file://", ""],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
def test_another_origin_is_refused_although_it_has_the_token(origin: str, method: str) -> None:
    encoded = [("host", "127.0.0.1:8737"), ("authorization", f"Bearer {TOKEN}"), ("origin", origin)]
    assert asyncio.run(answered(encoded, method=method)) == 403


def test_the_page_itself_is_an_origin() -> None:
    assert status(("origin", "http://127.0.0.1:8737"), ("sec-fetch-site", "same-origin")) == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site", "unknown"])
def test_a_request_of_another_site_is_refused_but_for_opening_the_page(site: str) -> None:
    navigation = [("sec-fetch-site", site), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]
    assert status(*navigation, path="/") == 200
    assert status(*navigation, path="/", method="POST") == 403
    assert status(*navigation, path="/api/v1/status") == 403
    assert status(("sec-fetch-site", site), path="/") == 403
    assert status(*navigation[:2], ("sec-fetch-dest", "iframe"), path="/") == 403
    assert status(("sec-fetch-site", site), ("sec-fetch-dest", "script"), path="/assets/app.js") == 403


def test_a_websocket_is_closed() -> None:
    sent: list[Any] = []

    async def run() -> None:
        async def send(message: Any) -> None:
            sent.append(message)

        await Guard(None, token=TOKEN)({"type": "websocket", "path": "/", "headers": []}, None, send)  # type: ignore[arg-type]

    asyncio.run(run())
    assert sent == [{"type": "websocket.close", "code": 1008}]


# With the whole application.


def test_every_endpoint_refuses_a_request_without_the_token(client: httpx.Client) -> None:
    stranger = httpx.Client(base_url=client.base_url)
    for endpoint in ENDPOINTS:
        path = endpoint.path.replace(":int}", "}").replace("{", "").replace("}", "")
        for method in (endpoint.method, "OPTIONS", "HEAD"):
            refused = stranger.request(method, path)
            assert refused.status_code == 401, endpoint
            assert refused.headers["www-authenticate"] == "Bearer"
    assert stranger.get("/openapi.json").json()["type"] == "urn:imgindex:Unauthorized"
    stranger.close()


def test_the_shell_needs_no_token_and_has_no_data(client: httpx.Client, home: Path) -> None:
    stranger = httpx.Client()
    for path in SHELL:
        answer = stranger.get(at(client, path))
        assert answer.status_code == 200
        assert TOKEN not in answer.text
        assert str(home) not in answer.text
    stranger.close()


@pytest.mark.parametrize("path", [*SHELL, "/api/v1/status", "/api/v1/nothing", "/nothing", "/api/v1/thumbnails?ids=1"])
def test_every_answer_has_the_headers_that_limit_browsers(client: httpx.Client, path: str) -> None:
    for headers in (AUTHORIZED, {"Authorization": ""}, {"Host": "evil.test"}):
        answer = client.get(at(client, path), headers=headers)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "trusted-types 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert not any(name.startswith("access-control-") for name in answer.headers)
        assert "set-cookie" not in answer.headers
        assert "server" not in answer.headers
        if path.startswith("/api/"):
            assert answer.headers["cache-control"] == "no-store"


# Bodies.


@pytest.fixture
def connected(client: httpx.Client) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=20) as connection:
        yield connection


def head(path: str, *lines: str, method: str = "POST", token: str = TOKEN) -> bytes:
    named = (f"{method} /api/v1{path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {token}", *lines, "", "")
    return "\r\n".join(named).encode()


def first_line(connection: socket.socket) -> str:
    return connection.recv(65536).split(b"\r\n")[0].decode()


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(connected: socket.socket) -> None:
    connected.sendall(head("/similar", f"Content-Length: {guard.MOST_IMAGE_BYTES + 1}"))
    assert "413" in first_line(connected)


def test_a_body_in_chunks_is_refused_when_it_is_too_large(
    connected: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MOST_BYTES", 10)
    connected.sendall(head("/views", "Transfer-Encoding: chunked", "Content-Type: application/json"))
    connected.sendall(b"5\r\nhello\r\n" * 3)
    assert "413" in first_line(connected)


def test_a_body_that_does_not_come_is_refused(connected: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.3)
    connected.sendall(head("/views", "Content-Length: 100", "Content-Type: application/json") + b'{"where":')
    assert "408" in first_line(connected)
    assert connected.recv(10)[:1] in (b"", b"{")


def test_a_body_that_drips_is_refused_although_each_part_comes_soon(
    connected: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "IMAGE_SECONDS", 0.5)
    connected.sendall(head("/similar", "Content-Length: 100000"))

    answer = None
    # The server answers and closes; bytes that come after that may make the system drop the answer.
    with contextlib.suppress(ConnectionError):
        for _ in range(400):
            if select.select([connected], [], [], 0.05)[0]:
                answer = first_line(connected)
                break
            connected.sendall(b"x")
        else:
            pytest.fail("the body is still read")
    assert answer is None or "408" in answer


def test_while_bodies_drip_others_are_answered(client: httpx.Client) -> None:
    slow = [socket.create_connection(("127.0.0.1", client.base_url.port or 0)) for _ in range(10)]
    for connection in slow:
        connection.sendall(head("/similar", "Content-Length: 100000") + b"x")
    assert client.get("/status").status_code == 200
    for connection in slow:
        connection.close()


def test_a_stranger_cannot_make_the_server_read_a_body(connected: socket.socket) -> None:
    connected.sendall(head("/similar", "Content-Length: 1000000", token="wrong"))
    assert "401" in first_line(connected)


@pytest.mark.parametrize(
    "lines",
    [("Content-Length: 5", "Content-Length: 6"), ("Content-Length: -1",), ("Content-Length: 5x",),
     ("Transfer-Encoding: chunked", "Transfer-Encoding: gzip"), ("Transfer-Encoding: chunked, identity",)],
)  # fmt: skip
def test_lengths_that_contradict_each_other_are_refused(connected: socket.socket, lines: tuple[str, ...]) -> None:
    connected.sendall(head("/views", *lines, "Content-Type: application/json") + b"hello")
    line = first_line(connected)
    assert any(code in line for code in ("400", "413", "501")), line


@pytest.mark.parametrize("chunk", [b"5;\r\n", b"0x5\r\nhello\r\n", b"5\nhello\r\n", b"5\r\nhelloXX0\r\n\r\n"])
def test_chunks_that_are_not_chunks_are_refused(connected: socket.socket, chunk: bytes) -> None:
    smuggled = head("/jobs/1", method="DELETE")
    connected.sendall(head("/views", "Transfer-Encoding: chunked", "Content-Type: application/json") + chunk + smuggled)
    assert "400" in first_line(connected)
    connected.settimeout(5)
    rest = b"x"
    while rest:
        rest = connected.recv(65536)
        assert b"HTTP/1.1" not in rest


def test_a_picture_that_would_fill_the_memory_is_refused_and_others_are_answered(
    client: httpx.Client,
) -> None:
    bomb = large_png(50_000)
    assert len(bomb) < 1 << 20
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(client.post("/similar", content=bomb).status_code))
    thread.start()
    with httpx.Client(base_url=client.base_url, headers=AUTHORIZED, timeout=60) as other:
        assert other.get("/server").status_code == 200
    thread.join()
    assert answers == [400]


def test_a_client_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "TAKE_SECONDS", 0.3)
    ended, over = threading.Event(), threading.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while not over.is_set():
                await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
        finally:
            ended.set()

    with (
        at_a_port(Guard(endless, token=TOKEN)) as port,
        socket.create_connection(("127.0.0.1", port)) as connection,
    ):
        connection.sendall(head("/status", method="GET"))
        try:
            assert ended.wait(20)
        finally:
            over.set()


def test_another_host_is_answered_for_where_it_is_allowed(home: Path) -> None:
    with client_of(home / ".imgindex", allowed_hosts=["photos.lan"]) as client:
        assert client.get("/server", headers={"Host": "photos.lan:80"}).status_code == 200
        assert client.get("/server", headers={"Host": "other.lan"}).status_code == 421
