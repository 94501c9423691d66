"""Fixtures of the server's tests: an index that was made once, copied for each test, and a client of its server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from browsers import chromium
from forking import ForkServer
from page_visits import TOKEN_IN_ADDRESS, Visit, visits
from pictures import draw
from serving import at_a_port, client_of
from small_recipe import SMALL

from imgindex.server.app import build_app

INDEX = ".imgindex"


@pytest.fixture(scope="session")
def album(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with twelve pictures, one of them twice, a file that is not a picture, their index and a clustering."""
    base = tmp_path_factory.mktemp("album")
    for number in range(12):
        draw(base / "photos" / ("a" if number < 6 else "b") / f"{number}.png", number, (64 + number, 48))
    shutil.copy(base / "photos" / "a" / "0.png", base / "photos" / "b" / "copy.png")
    (base / "photos" / "broken.jpg").write_bytes(b"this is not a picture")
    assert server.run("add", "photos", *SMALL, folder=base).code == 3
    assert server.run("cluster", "-k", "3", folder=base).code == 0
    return base


@pytest.fixture
def home(album: Path, tmp_path: Path) -> Path:
    """A copy of the album: an index moves with its folder."""
    shutil.copytree(album, tmp_path / "album")
    return tmp_path / "album"


@pytest.fixture
def client(home: Path) -> Iterator[httpx.Client]:
    """A client of the server of the copy, with the token."""
    with client_of(home / INDEX) as opened:
        yield opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser; the tests of a file share it."""
    with chromium() as running:
        yield running


@pytest.fixture
def visit(browser: Any, home: Path) -> Iterator[Visit]:
    """Open a page of the server of the copy in the browser."""
    app, close = build_app(str(home / INDEX), token=TOKEN_IN_ADDRESS)
    with at_a_port(app) as port, visits(browser, port) as visit:
        yield visit
    close()
