"""Processes beside that of the test which open the same index."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from imgindex import ImageIndex
from imgindex.storage import checksum


def child(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Run code that may import the tests' encoder in a process of its own; it prints lines, and waits for stdin."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", "import os, sys\n" + code, *map(os.fspath, arguments)]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def output(code: str, *arguments: str | Path) -> str:
    """What the code prints, run to its end."""
    with child(code, *arguments) as process:
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
    return out.strip()


REPAIR = """
from imgindex import ImageIndex
ImageIndex.repair(sys.argv[1])
"""


CATALOGUE = "catalogue.db"


class Died(Exception):
    """What a run dies of here."""


def check_sound(path: Path) -> None:
    checksum.check(os.fspath(path / CATALOGUE))
    assert checksum.read(os.fspath(path / CATALOGUE)) is not None
    with ImageIndex.open(path) as index:
        assert index.verify(full=True).ok
        assert len(index.vectors()) == 12
