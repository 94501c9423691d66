"""`imgindex lookup`, with the network of the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from collections_of import incoming_files, picture_and_grey
from forking import Run
from pictures import draw

from imgindex import ImageIndex


@pytest.fixture
def known(tmp_path: Path) -> Iterator[ImageIndex]:
    with picture_and_grey(tmp_path) as index:
        yield index


@pytest.fixture
def incoming(known: ImageIndex, tmp_path: Path) -> Path:
    return incoming_files(tmp_path)


@pytest.fixture
def indexed(run: Run, known: ImageIndex, tmp_path: Path) -> Path:
    assert run("add", "known", "--recipe", "vgg16-pool5", "--size", "32").returncode == 0
    return tmp_path


def test_the_command_lists_failures_and_exits_with_3(run: Run, indexed: Path, incoming: Path) -> None:
    result = run("lookup", "incoming")
    assert result.returncode == 3
    assert "1 failed, 1 same" in result.stderr
    assert result.stdout.splitlines()[0].split() == ["how", "path", "match", "distance", "reason"]
    found = json.loads(run("lookup", "incoming", "--json").stdout)
    assert found[1] == {
        "path": "incoming/copy.png",
        "how": "same",
        "match": "known/original.png",
        "distance": 0.0,
        "turned": "",
        "id": 2,
        "reason": "",
    }
    assert run("lookup", "incoming/copy.png", "--format", "csv").returncode == 0


def test_paths_of_new_files_can_be_piped_into_add(run: Run, indexed: Path, incoming: Path) -> None:
    (incoming / "broken.png").unlink()
    odd = incoming / os.fsdecode(b"new \xff.png")
    draw(odd, (0, 255, 255))
    listed = b"\n".join(os.fsencode(path.relative_to(indexed)) for path in sorted(incoming.iterdir()))
    command = [sys.executable, "-m", "imgindex", "lookup", "-", "--format", "paths"]
    done = subprocess.run(command, cwd=indexed, input=listed, capture_output=True, check=True)
    assert b"incoming/copy.png" not in done.stdout
    assert b"incoming/new \xff.png\n" in done.stdout
    assert b"incoming/white.png\n" in done.stdout
