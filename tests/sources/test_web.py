from __future__ import annotations

import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from add_checks import counts
from local_server import Answer, LocalServer
from pictures import draw

from imgindex import ImageIndex
from imgindex.errors import SourceUnavailable, UnreadableImage
from imgindex.sources import web as module
from imgindex.sources.registry import find_files, web
from imgindex.sources.web import WebSource
from imgindex.types import Failure, FoundFile


class Site(LocalServer):
    """A real server on 127.0.0.1: files with ETags, and paths with answers of their own."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.validators = ("ETag", "Last-Modified")
        super().__init__(self._answer)

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        self.requests.append(f"{request.command} {request.path}")
        if request.path in self.answers:
            self.answers[request.path](request)
        elif request.path in self.files:
            self.send(request, self.files[request.path])
        else:
            request.send_error(404)

    def send(self, handler: http.server.BaseHTTPRequestHandler, data: bytes, status: int = 200) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(data)))
        handler.send_header("Content-Type", "text/html")
        if "ETag" in self.validators:
            handler.send_header("ETag", f'"{hashlib.md5(data).hexdigest()}"')
        if "Last-Modified" in self.validators:
            handler.send_header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(data)


@pytest.fixture
def site(folder: Path) -> Iterator[Site]:
    """A site with the twelve pictures of `folder`."""
    made = Site()
    for path in folder.rglob("*.png"):
        made.files[f"/{path.relative_to(folder)}"] = path.read_bytes()
    yield made
    made.close()
    web().close()


@pytest.fixture
def source() -> Iterator[WebSource]:
    made = WebSource()
    yield made
    made.close()


@pytest.fixture
def addresses(site: Site) -> list[str]:
    return [f"{site.address}{path}" for path in sorted(site.files)]


def redirect(to: str, status: int = 302) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def problem(status: int) -> Answer:
    return lambda handler: handler.send_error(status)


# Adding.


def test_vectors_are_those_of_files_to_the_bit(index: ImageIndex, addresses: list[str], folder: Path) -> None:
    index.add(folder)
    by_file = dict(zip([Path(path).name for path in index.paths()], index.vectors().tolist(), strict=True))
    index.remove(folder)
    assert counts(index.add(addresses)) == {"added": 12}
    assert index.paths() == addresses
    assert dict(zip([Path(path).name for path in index.paths()], index.vectors().tolist(), strict=True)) == by_file


def test_a_second_add_reads_no_file_and_a_changed_one_is_embedded_again(
    index: ImageIndex, addresses: list[str], site: Site, folder: Path
) -> None:
    index.add(addresses)
    site.requests.clear()
    assert counts(index.add(addresses)) == {"unchanged": 12}
    assert {request.split()[0] for request in site.requests} == {"HEAD"}
    ids = [image.id for image in index.images()]
    site.files["/a/3.png"] = draw(folder / "new.png", 77).read_bytes()
    assert counts(index.add(addresses)) == {"updated": 1, "unchanged": 11}
    assert [image.id for image in index.images()] == ids


def test_a_file_that_is_gone_is_a_failure_of_that_image(index: ImageIndex, addresses: list[str], site: Site) -> None:
    index.add(addresses)
    del site.files["/a/3.png"]
    assert counts(index.add(addresses)) == {"failed": 1, "unchanged": 11}
    (failure,) = index.failures()
    assert (failure.path, failure.reason) == (f"{site.address}/a/3.png", "the server has no such file (404)")
    assert len(index) == 11


def test_an_address_that_the_list_lacks_is_not_gone(index: ImageIndex, addresses: list[str]) -> None:
    index.add(addresses)
    assert counts(index.add(addresses[:5])) == {"unchanged": 5}
    assert len(index) == 12


def test_a_server_that_stops_ends_the_run_and_the_next_run_completes(
    index: ImageIndex, addresses: list[str], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSES", (0.01,))
    index.add(addresses[:4])
    site.answers["/b/7.png"] = problem(503)
    with pytest.raises(SourceUnavailable, match=rf"^{site.address} answers with an error \(503\)$"):
        index.add(addresses)
    assert (len(index), list(index.failures())) == (4, [])
    site.answers.clear()
    assert counts(index.add(addresses)) == {"added": 8, "unchanged": 4}


# What a server says of a file.


def test_one_request_gives_the_bytes_and_their_version(site: Site, source: WebSource) -> None:
    path = f"{site.address}/a/3.png"
    content = source.read(path)
    assert site.requests == ["GET /a/3.png"]
    assert content.data == site.files["/a/3.png"]
    assert content.sha256 == hashlib.sha256(content.data).digest()
    assert content.version == f'"{hashlib.md5(content.data).hexdigest()}"'
    assert content.mtime_ns == 784111777 * 10**9
    assert content.file_at(path) == source.look(path) == next(find_files([path]))
    assert source.hash(path).sha256 == content.sha256
    assert source.read_head(path) == content.data[:64]


@pytest.mark.parametrize(("validators", "version"), [(("Last-Modified",), "Sun, 06 Nov 1994 08:49:37 GMT"), ((), None)])
def test_without_an_etag_the_time_is_the_version(
    site: Site, source: WebSource, validators: tuple[str, ...], version: str | None
) -> None:
    site.validators = validators
    path = f"{site.address}/a/3.png"
    assert source.read(path).version == version
    assert source.look(path) == source.read(path).file_at(path)


def test_the_type_that_the_server_gives_is_not_trusted(index: ImageIndex, site: Site) -> None:
    site.files["/page.png"] = b"<html>not a picture</html>"
    assert counts(index.add([f"{site.address}/page.png", f"{site.address}/a/1.png"])) == {"added": 1, "failed": 1}


def test_an_address_may_have_any_name(index: ImageIndex, site: Site) -> None:
    site.files["/image?id=5"] = site.files["/a/1.png"]
    site.files["/"] = site.files["/a/2.png"]
    assert counts(index.add([f"{site.address}/image?id=5", site.address])) == {"added": 2}


@pytest.mark.parametrize("status", [403, 405, 501])
def test_a_server_that_does_not_answer_head_is_asked_by_get(site: Site, source: WebSource, status: int) -> None:
    site.answers["/a/1.png"] = lambda handler: (
        handler.send_error(status) if handler.command == "HEAD" else site.send(handler, site.files["/a/1.png"])
    )
    path = f"{site.address}/a/1.png"
    assert source.look(path) == source.read(path).file_at(path)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 418, 501])
def test_a_refusal_is_a_failure_of_that_image(site: Site, source: WebSource, status: int) -> None:
    site.answers["/a/1.png"] = problem(status)
    path = f"{site.address}/a/1.png"
    (found,) = source.find([path], None)  # type: ignore[arg-type]
    assert isinstance(found, Failure)
    with pytest.raises(UnreadableImage, match=str(status)) as raised:
        source.read(path)
    assert not isinstance(raised.value, SourceUnavailable)
    assert list(source.gone([path])) == ([path] if status in (404, 410) else [])


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_problem_of_the_server_is_tried_again_and_then_ends_the_run(
    site: Site, source: WebSource, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSES", (0.01, 0.01))
    site.answers["/a/1.png"] = problem(status)
    with pytest.raises(SourceUnavailable, match=str(status)):
        source.read(f"{site.address}/a/1.png")
    assert len(site.requests) == 3


def test_a_connection_is_used_again_until_the_server_closes_it(site: Site, source: WebSource) -> None:
    clients: set[int] = set()
    data = site.files["/a/1.png"]

    def note(handler: http.server.BaseHTTPRequestHandler) -> None:
        clients.add(handler.client_address[1])
        site.send(handler, data)

    site.answers["/a/1.png"] = note
    for _ in range(5):
        assert source.read(f"{site.address}/a/1.png").data == data
    assert len(clients) == 1

    def note_and_close(handler: http.server.BaseHTTPRequestHandler) -> None:
        note(handler)
        handler.close_connection = True

    site.answers["/a/1.png"] = note_and_close
    for _ in range(5):
        assert source.read(f"{site.address}/a/1.png").data == data
    assert len(clients) > 1


# Servers that mean no good.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_within_the_host_is_followed(site: Site, source: WebSource, status: int) -> None:
    site.answers["/here.png"] = redirect("/a/1.png", status)
    path = f"{site.address}/here.png"
    assert source.read(path).data == site.files["/a/1.png"]
    assert source.look(path) == source.read(path).file_at(path)


def test_a_redirect_to_another_host_is_refused_and_asks_it_nothing(site: Site, source: WebSource) -> None:
    other = Site()
    other.files["/a/1.png"] = site.files["/a/1.png"]
    targets = {
        f"http://localhost:{other.port}/a/1.png": "redirects to localhost",
        f"{other.address}/a/1.png": f"redirects to {other.address}",
        f"//localhost:{other.port}/a/1.png": "redirects to localhost",
        f"https://127.0.0.1:{other.port}/a/1.png": "redirects to https",
        "file:///etc/passwd": "something else than an address",
        "": "redirects more than 5 times",
    }
    for target, reason in targets.items():
        site.answers["/here.png"] = redirect(target)
        with pytest.raises(UnreadableImage, match=reason):
            source.read(f"{site.address}/here.png")
    assert other.requests == []
    other.close()


def test_a_name_that_leads_to_a_private_address_is_refused(site: Site, source: WebSource) -> None:
    # The system reads such a name as 127.0.0.1.
    with pytest.raises(UnreadableImage, match=r"^0x7f000001 leads to a private address"):
        source.read(f"http://0x7f000001:{site.port}/a/1.png")
    assert site.requests == []
    assert source.read(f"http://localhost:{site.port}/a/1.png").data == site.files["/a/1.png"]


@pytest.mark.parametrize(
    "number",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "::1", "::", "fe80::1%eth0", "fd00:ec2::254", "::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "ff02::1",
    ],
)  # fmt: skip
def test_private_numbers_are_recognised(number: str) -> None:
    assert not module._is_public(number)


@pytest.mark.parametrize("number", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"])
def test_public_numbers_are_recognised(number: str) -> None:
    assert module._is_public(number)


def test_a_body_without_an_end_is_read_to_the_limit(site: Site, source: WebSource) -> None:
    sent: list[int] = []

    def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65536)
            sent.append(65536)

    site.answers["/a/1.png"] = endless
    with pytest.raises(UnreadableImage, match="more than the limit of 1 MB"):
        source.read(f"{site.address}/a/1.png", max_bytes=10**6)
    assert sum(sent) < 100 * 10**6


def test_a_body_that_says_that_it_is_large_is_not_read(site: Site, source: WebSource) -> None:
    site.files["/a/1.png"] = b"x" * 2_000_000
    with pytest.raises(UnreadableImage, match="at least 2 MB, more than the limit of 1 MB"):
        source.read(f"{site.address}/a/1.png", max_bytes=10**6)
    assert source.hash(f"{site.address}/a/1.png").size == 2_000_000


def test_an_answer_that_ends_too_early_is_not_an_image(site: Site, source: WebSource) -> None:
    def cut(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x" * 10)
        handler.close_connection = True

    site.answers["/a/1.png"] = cut
    with pytest.raises(SourceUnavailable, match=r"ended an answer too early|stopped in the middle"):
        source.read(f"{site.address}/a/1.png")


def test_an_empty_answer_is_a_failure(site: Site, source: WebSource) -> None:
    site.files["/a/1.png"] = b""
    with pytest.raises(UnreadableImage, match="the answer is empty"):
        source.read(f"{site.address}/a/1.png")


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_slow_server_ends_the_run_however_often_it_sends_a_byte(
    site: Site, source: WebSource, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEADERS_WITHIN", 0.5)
    monkeypatch.setattr(module, "RETRIES_WITHIN", 0.1)
    monkeypatch.setattr(module, "GRACE", 0.5)
    going = threading.Event()

    def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        if part == "body":
            handler.end_headers()
        else:
            handler.flush_headers()
        while not going.wait(0.05):
            handler.wfile.write(b"x")

    site.answers["/a/1.png"] = drip
    with pytest.raises(SourceUnavailable, match=r"timed out|too slowly"):
        source.read(f"{site.address}/a/1.png")
    going.set()


def test_a_server_that_says_nothing_ends_the_run(source: WebSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    monkeypatch.setattr(module, "RETRIES_WITHIN", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(SourceUnavailable, match=rf"^http://127.0.0.1:{port} does not answer: timed out$"):
            source.read(f"http://127.0.0.1:{port}/a.png")


def test_nothing_listens_at_a_port(source: WebSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES", ())
    with pytest.raises(SourceUnavailable, match="Connection refused") as raised:
        list(source.find(["http://127.0.0.1:9/a.png"], None))  # type: ignore[arg-type]
    assert "check the address" in raised.value.hint
    assert source.look("http://127.0.0.1:9/a.png") is None
    assert list(source.gone(["http://127.0.0.1:9/a.png"])) == []


def test_what_is_not_http_ends_the_run(source: WebSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES", ())
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(b"SSH-2.0-OpenSSH_9.6\r\n" * 3)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(SourceUnavailable, match="does not answer: BadStatusLine"):
            source.read(f"http://127.0.0.1:{server.getsockname()[1]}/a.png")
        thread.join()


def test_several_requests_are_under_way_at_once(site: Site, source: WebSource) -> None:
    together = threading.Barrier(8, timeout=20)

    def wait(handler: http.server.BaseHTTPRequestHandler) -> None:
        together.wait()
        site.send(handler, b"x")

    paths = [f"/{number}.png" for number in range(8)]
    site.answers |= dict.fromkeys(paths, wait)
    found = list(source.find([site.address + path for path in paths], None))  # type: ignore[arg-type]
    assert all(isinstance(one, FoundFile) for one in found)
