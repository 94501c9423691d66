"""The gateway of object stores: what obstore asks for reaches the named server, and no other one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from local_server import LocalServer

from imgindex.errors import SourceUnavailable, UnreadableImage
from imgindex.sources.gateway import Gateway
from imgindex.sources.objects import ObjectSource

DATA = b"\x89PNG" * 300_000


class Store(LocalServer):
    """A server that answers as an S3 store does; what it has under `away` is a redirect."""

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self.asked: list[str] = []
        self.away = ""
        super().__init__(self._answer, certificate)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        if self.away and ("away" in request.path or "list-type" in request.path):
            request.send_response(302)
            request.send_header("Location", f"{self.away}/secret.png")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        request.send_response(200)
        request.send_header("Content-Length", str(len(DATA)))
        request.send_header("ETag", '"etag"')
        request.send_header("Last-Modified", formatdate(usegmt=True))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(DATA)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Path, Path]]:
    """The certificate of an authority, and that of a server of 127.0.0.1 with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "extensions").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -keyout authority.key -out authority.pem -subj /CN=authority",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=server",
        "x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -extfile extensions "
        "-out server.pem",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return folder / "authority.pem", (folder / "server.pem", folder / "server.key")


@pytest.fixture(params=["http", "https"])
def stores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Store, Store]]:
    """The store that the user named, and another server."""
    certificate = None
    if request.param == "https":
        authority, certificate = request.getfixturevalue("certificates")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    for name in (*os.environ,):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    named, other = Store(certificate), Store(certificate)
    monkeypatch.setenv("AWS_ENDPOINT_URL", named.address)
    yield named, other
    named.close()
    other.close()


def test_the_named_server_is_asked_by_path(stores: tuple[Store, Store]) -> None:
    named, _ = stores
    source = ObjectSource()
    assert [source.read(f"s3://bucket/{name}").data for name in ("1.png", "2.png")] == [DATA, DATA]
    assert named.asked == ["/bucket/1.png", "/bucket/2.png"]


def test_a_redirect_to_another_server_is_a_failure_of_the_image_and_asks_it_nothing(
    stores: tuple[Store, Store],
) -> None:
    named, other = stores
    named.away = other.address
    source = ObjectSource()
    with pytest.raises(UnreadableImage, match="redirects to another server") as caught:
        source.read("s3://bucket/away.png")
    assert not isinstance(caught.value, SourceUnavailable)
    assert source.read("s3://bucket/1.png").data == DATA
    assert other.asked == []


def test_a_listing_that_is_redirected_ends_the_run(stores: tuple[Store, Store]) -> None:
    named, other = stores
    named.away = other.address
    with pytest.raises(SourceUnavailable, match="redirects to another server"):
        ObjectSource().check("s3://bucket/folder")
    assert other.asked == []


def test_a_redirect_within_the_server_is_followed(stores: tuple[Store, Store]) -> None:
    named, _ = stores
    named.away = named.address
    assert ObjectSource().read("s3://bucket/away.png").data == DATA
    assert named.asked == ["/bucket/away.png", "/secret.png"]


def test_a_certificate_that_is_not_trusted_is_said(
    certificates: tuple[Path, tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    named = Store(certificates[1])
    monkeypatch.setenv("AWS_ENDPOINT_URL", named.address)
    with pytest.raises(SourceUnavailable, match="certificate that is not trusted") as caught:
        ObjectSource().read("s3://bucket/1.png")
    assert "SSL_CERT_FILE" in caught.value.hint
    named.close()


@pytest.mark.parametrize(
    ("request_of", "answer"),
    [
        (b"GET http://127.0.0.2:1/ HTTP/1.1\r\n\r\n", b"HTTP/1.1 421"),
        (b"CONNECT 127.0.0.2:1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 421"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.2\r\n\r\n", b"HTTP/1.1 421"),
        (b"\x16\x03\x01\r\n\r\n", b"HTTP/1.1 421"),
        (b"GET http://[/ HTTP/1.1\r\n\r\n", b"HTTP/1.1 421"),
        (b"x" * (1 << 17), b""),
    ],
)
def test_what_is_not_a_request_to_a_named_server_is_refused(request_of: bytes, answer: bytes) -> None:
    address = Gateway().address_for(["http://127.0.0.1:9"])
    assert address is not None
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=20) as client:
        client.sendall(request_of)
        try:
            received = client.recv(100)
        except ConnectionResetError:
            received = b""
    assert received[:12] == answer


def test_a_connection_stays_with_its_server() -> None:
    first, second = Store(), Store()
    address = Gateway().address_for([first.address, second.address])
    assert address is not None
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=20) as client:
        for store in (first, second):
            client.sendall(f"HEAD {store.address}/a?b HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            received = client.recv(1000)
            assert received.startswith(b"HTTP/1.1 200") is (store is first)
    assert (first.asked, second.asked) == (["/a?b"], [])
    first.close()
    second.close()


def test_behind_a_proxy_of_the_environment_there_is_no_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:3128")
    assert Gateway().address_for(["http://127.0.0.1:9"]) is None
    monkeypatch.delenv("https_proxy")
    assert Gateway().address_for([]) is None


@pytest.mark.parametrize("address", ["s3://bucket/1.png", "gs://bucket/1.png", "az://container/1.png"])
def test_a_provider_is_asked_without_a_gateway(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*os.environ,):
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    # Nothing is asked: the client of a bucket is made without a request.
    made = ObjectSource()._store(address.rpartition("/")[0])
    assert "proxy_url" not in (made.client_options or {})
