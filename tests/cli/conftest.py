"""Fixtures of the tests of the command line: small collections beside their indexes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli_commands import COLOURS, COUNTS
from forking import ForkServer
from pictures import draw
from small_recipe import SMALL


@pytest.fixture(scope="session")
def made(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `pictures/red/red0.png` …, five reds, four greens and three blues, beside its index."""
    folder = tmp_path_factory.mktemp("made")
    for (kind, colour), count in zip(COLOURS.items(), COUNTS.values(), strict=True):
        for number in range(count):
            draw(folder / f"pictures/{kind}/{kind}{number}.png", tuple(part + number for part in colour))
    done = server.run("add", "pictures", *SMALL, folder=folder)
    assert done.code == 0, done.stderr
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    """A copy of the collection, in the temporary folder where `run` runs."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="session")
def template(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with twelve pictures beside their index."""
    base = tmp_path_factory.mktemp("template")
    for number in range(12):
        draw(base / "pictures" / ("a" if number < 6 else "b") / f"{number}.png", number)
    done = server.run("add", "pictures", *SMALL, folder=base)
    assert done.code == 0, done.stderr
    return base


@pytest.fixture
def added(template: Path, tmp_path: Path) -> Path:
    """The twelve pictures, indexed in the temporary folder's own .imgindex: an index moves with its folder."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return tmp_path / "pictures"
