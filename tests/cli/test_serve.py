"""`imgindex serve`: what it prints, how it ends, and what others can see of its token."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from forking import ForkServer, Run
from serving import ROOT, Running, running

from imgindex.cli import serve

pytestmark = pytest.mark.slow


@pytest.fixture
def served(three: Path) -> Iterator[Running]:
    with running(three) as started:
        yield started


def test_the_first_line_is_the_address_with_a_token(served: Running) -> None:
    assert served.address.startswith("http://127.0.0.1:")
    assert len(served.token) >= 40
    with served.client() as client:
        assert client.get("/status").json()["images"] == 3
        assert "<title>" in httpx.get(served.address).text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_once_although_clients_wait(served: Running, number: int) -> None:
    with served.client() as client, client.stream("GET", "/events") as events:
        next(events.iter_lines())
        began = time.monotonic()
        code, out, err = served.stop(number)
    assert (code, out, err) == (0, "", "")
    assert time.monotonic() - began < 20


def test_each_run_has_a_token_of_its_own_that_dies_with_it(three: Path) -> None:
    with running(three) as first, running(three) as second:
        assert first.address != second.address
        old = {"Authorization": f"Bearer {first.token}"}
        assert httpx.get(f"{second.address}/api/v1/status", headers=old).status_code == 401
        assert httpx.get(f"{first.address}/api/v1/status", headers=old).status_code == 200


def test_the_token_is_in_no_argument_no_file_and_no_remark(served: Running, three: Path) -> None:
    with served.client() as client:
        client.get("/status")
        client.post("/similar", content=(three / "pictures" / "0.png").read_bytes())
    arguments = Path(f"/proc/{served.process.pid}/cmdline").read_bytes()
    environment = Path(f"/proc/{served.process.pid}/environ").read_bytes()
    files = b"".join(path.read_bytes() for path in three.rglob("*") if path.is_file())
    _, out, err = served.stop()
    for text in (arguments, environment, files, out.encode(), err.encode()):
        assert served.token.encode() not in text


def test_a_browser_is_led_to_the_page_by_a_file_of_this_user_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    with serve._browser("http://127.0.0.1:1/#token=sesame&", wanted=True):
        while not opened:
            time.sleep(0.01)
        assert "sesame" not in opened[0]
        path = unquote(opened[0].removeprefix("file://"))
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
        text = Path(path).read_text(encoding="utf-8")
        assert "url=http://127.0.0.1:1/#token=sesame&amp;" in text
        assert "no-referrer" in text
    assert not os.path.exists(path)
    with serve._browser("http://127.0.0.1:1/#token=sesame", wanted=False):
        pass
    assert len(opened) == 1


def test_a_socket_is_answered_at_and_removed_at_the_end(three: Path) -> None:
    with running(three, "--socket", "it.sock") as started:
        assert started.address == f"http+unix://{str(three / 'it.sock').replace('/', '%2F')}"
        transport = httpx.HTTPTransport(uds=str(three / "it.sock"))
        headers = {"Authorization": f"Bearer {started.token}"}
        with httpx.Client(transport=transport, base_url="http://localhost/api/v1", headers=headers) as client:
            assert client.get("/status").json()["images"] == 3
        code, _, err = started.stop()
        assert (code, "ssh -L" in err) == (0, True)
    assert not (three / "it.sock").exists()


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root, to become another user")
def test_another_user_cannot_connect_to_the_socket(three: Path) -> None:
    for folder in [three, *three.parents]:
        if folder.owner() == "root" and folder != Path("/"):
            folder.chmod(0o755)
    with running(three, "--socket", "it.sock"):
        ask = ["curl", "--silent", "--unix-socket", str(three / "it.sock"), "http://localhost/"]
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        own = subprocess.run(ask, capture_output=True, check=False)
        other = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *ask], capture_output=True, check=False
        )
        assert own.returncode == 0
        assert other.returncode != 0


def test_an_empty_index_is_served_with_a_remark(templates: dict[int, Path], tmp_path: Path) -> None:
    shutil.copytree(templates[0], tmp_path, dirs_exist_ok=True)
    with running(tmp_path) as started:
        with started.client() as client:
            assert client.post("/views", json={}).json()["total"] == 0
            assert client.get("/duplicates").json()["groups"] == []
        _, _, err = started.stop()
    assert "imgindex add FOLDER" in err


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--host", "0.0.0.0"], 2, "--allow-host"),
        (["--socket", "it.sock", "--port", "9"], 2, "excludes"),
        (["--socket", ""], 2, "variable"),
        (["--socket", "pictures"], 2, "not a socket"),
        (["--host", "no such host", "--allow-host", "x"], 2, "not an address"),
        (["--port", "0"], 2, "--port"),
        (["--index", "none"], 1, "no index"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    server: ForkServer, three: Path, options: list[str], code: int, words: str
) -> None:
    done = server.run("serve", *options, folder=three)
    assert done.code == code
    assert words in done.stderr
    assert done.stdout == b""
    if code == 1:
        assert done.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(run: Run, three: Path, served: Running) -> None:
    port = served.address.rpartition(":")[2]
    done = run("serve", "--port", port, cwd=three)
    assert done.returncode == 1
    assert done.stderr == (
        f"imgindex: error: another program uses port {port} of 127.0.0.1; choose another port or a socket, or name no "
        "port: then a free one is taken\n"
    )


def test_the_example_of_the_documentation_works(served: Running) -> None:
    text = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    example = text.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {"address": served.address, "token": served.token}
    exec(compile(example.replace("width > 40", "width > 30"), "serve.md", "exec"), names)
    assert len(names["rows"]["ids"]) == 3
    assert len(names["nearest"]["matches"]) == 2
    with served.client() as client:
        assert client.get("/tags").json() == [{"tag": "wide", "images": 3}]
