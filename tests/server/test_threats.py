"""What a request must not make the server do, beside what `guard.py` refuses: fill the memory, or ask other servers."""

from __future__ import annotations

import ast
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from bombs import large_png, long_gif
from pictures import draw
from serving import ROOT, Running, running

MOST_GROWTH = 200 << 20
SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">
<image xlink:href="{0}" href="{0}" width="9" height="9"/></svg>"""


def resident(pid: int) -> int:
    """The memory in bytes that a process and its children share with no other process."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += resident(int(child))
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return found + 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


class Watch:
    """Measures the memory of a server while the block runs."""

    def __init__(self, pid: int) -> None:
        self.pid, self.before, self.most = pid, resident(pid), 0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._ends.wait(0.02):
            try:
                self.most = max(self.most, resident(self.pid))
            except OSError:
                continue  # a child has ended meanwhile

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ends.set()
        self._thread.join()

    @property
    def growth(self) -> int:
        return self.most - self.before


@pytest.fixture
def served(home: Path) -> Iterator[Running]:
    with running(home) as started:
        yield started


def test_pictures_that_would_fill_the_memory_do_not(served: Running, tmp_path: Path) -> None:
    with served.client() as client:
        picture = draw(tmp_path / "another.png", 99).read_bytes()
        # The index does not have it, so the network and the decoders are there from now on.
        assert client.post("/similar", content=picture).status_code == 200
        with Watch(served.process.pid) as watch:
            for bomb in (large_png(50_000), large_png(20_000, depth=8), long_gif(2000, 20)):
                answer = client.post("/similar", content=bomb)
                assert answer.status_code in (200, 400), answer.text
                assert client.get("/status").status_code == 200
            assert client.post("/similar", content=picture).status_code == 200
    assert watch.growth < MOST_GROWTH


def test_a_body_that_is_long_or_does_not_end_takes_little_memory(served: Running) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(1 << 20)

    with served.client() as client, Watch(served.process.pid) as watch:
        for _ in range(3):
            # The server may end the connection while the client still sends.
            with contextlib.suppress(httpx.WriteError):
                assert client.post("/similar", content=endless()).status_code == 413
        assert client.get("/status").status_code == 200
    assert watch.growth < MOST_GROWTH


def test_parts_of_the_framework_that_read_files_and_forms_are_not_used() -> None:
    """Its files, and earlier versions' reading of the Host header, had vulnerabilities."""
    allowed = {"Starlette", "HTTPException", "Request", "Response", "StreamingResponse", "Route"}
    imported, called = set(), set()
    for path in (ROOT / "imgindex").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {one.name for one in node.names if one.name.startswith("starlette")}
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("starlette"):
                imported |= {one.name for one in node.names}
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and "server" in path.parts:
                called.add(node.func.attr)
    assert imported == allowed
    assert "form" not in called
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"starlette>=1.3.1"' in project
    assert '"h11>=0.16"' in project


@pytest.fixture
def listener() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a server that answers nothing, and what it was asked."""
    heard: list[bytes] = []
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def accept() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                heard.append(client.recv(1000))
                client.close()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/picture.png", heard


def test_no_request_makes_the_server_ask_another_one(client: httpx.Client, listener: tuple[str, list[bytes]]) -> None:
    url, heard = listener
    tag = client.get("/status").headers["ETag"]
    bodies: list[bytes] = [url.encode(), f'"{url}"'.encode(), SVG.format(url).encode(), f"<img src='{url}'>".encode()]
    for body in bodies:
        assert client.post("/similar", content=body).status_code == 400
    jobs: list[dict[str, Any]] = [{"kind": "add", "paths": [path]} for path in (url, f"s3://{url}", f"file://{url}")]
    for job in jobs:
        answer = client.post("/jobs", json=job, headers={"If-Match": tag})
        assert answer.status_code == 400, answer.text
    for query in ({"where": f"path = '{url}'"}, {"n": url}, {"url": url}):
        assert client.get("/images/1/similar", params=query).status_code in (200, 400)
    assert client.get(f"/images/{url}").status_code in (400, 404)
    time.sleep(0.2)
    assert heard == []


def test_the_listener_of_these_tests_hears_what_it_is_asked(listener: tuple[str, list[bytes]]) -> None:
    url, heard = listener
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(url)
    assert heard[0].startswith(b"GET /picture.png")
