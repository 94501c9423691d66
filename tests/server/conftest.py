"""Fixtures of the server's tests: an index that was made once, copied for each test, and a client of its server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from forking import ForkServer
from pictures import draw
from serving import client_of
from small_recipe import SMALL

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
