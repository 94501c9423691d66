"""The types of the package reach the programs of those who install it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAM = """
from imgindex import ImageIndex

with ImageIndex.open("photos.imgindex") as index:
    reveal_type(index)
    for match in index.similar("photo.jpg", n=3):
        reveal_type(match.distance)
"""


def is_installed_from_here() -> bool:
    # The build's metadata in the repository is found too, and does not say where it was installed from.
    said = [found.read_text("direct_url.json") for found in distributions(name="imgindex")]
    return any(text is not None and json.loads(text)["url"] == ROOT.as_uri() for text in said)


@pytest.mark.slow
@pytest.mark.skipif(not is_installed_from_here(), reason="imgindex is not installed in this environment: make install")
def test_mypy_knows_the_types_of_the_package_that_make_install_installs(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache/program"), "program.py"]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    notes = [line.partition("note: ")[2] for line in done.stdout.splitlines() if "note: " in line]
    assert (done.returncode, notes) == (
        0,
        ['Revealed type is "imgindex.index.ImageIndex"', 'Revealed type is "float"'],
    ), done.stdout
