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
# A program that mypy says the types of, and one that uses much of the API.
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


SCRIPT = """
import hashlib

import numpy as np
import numpy.typing as npt
from imgindex import AddReport, Clustering, CustomEncoder, Engine, ImageIndex, Match, Mix, Progress


class Colours:
    name = "colours"
    digest = hashlib.sha256(b"colours").hexdigest()
    dimension, side, norm = 3, 32, "l2"

    def encode(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        colours: npt.NDArray[np.float32] = batch.mean(axis=(1, 2), dtype=np.float32)
        return colours


def show(progress: Progress) -> None:
    print(progress.stage, progress.done, progress.total)


def nearest(index: ImageIndex, path: str) -> Match | None:
    matches: list[Match] = index.similar(path, n=1, where="width > 10")
    return matches[0] if matches else None


encoder: CustomEncoder = Colours()
with ImageIndex.create("it.imgindex", encoder=encoder, engine=Engine(workers=2), wait=True) as index:
    report: AddReport = index.add(["photos"], exclude="*.tmp", on_progress=show, stop=lambda: False)
    vectors: npt.NDArray[np.float32] = index.vectors()
    clustering: Clustering = index.cluster(k=range(2, 9), anchors={"cats": ["cat.jpg"]})
    names: list[str | None] = [cluster.name for cluster in index.clusterings.newest.clusters]
    several: list[list[Match]] = index.similar(["a.jpg", "b.jpg"])
    mixed = index.similar(Mix(plus=["a.jpg"], minus=["b.jpg"]))
    print(len(index), "a.jpg" in index, [image.width for image in index], nearest(index, index.paths()[0]))
    print(report.added, vectors.shape, names, several, mixed[0].distance, index.vector(vectors[0]))
    index.gallery(clustering).write_html("it.html")
    index.gallery(index.duplicates(exact=True)).write_sheet("it.png")
"""


@pytest.mark.slow
@pytest.mark.skipif(not is_installed_from_here(), reason="imgindex is not installed in this environment: make install")
def test_mypy_knows_the_types_of_the_package_that_make_install_installs(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    options = ["--strict", "--follow-imports", "silent", "--cache-dir", str(ROOT / ".mypy_cache/programs")]
    command = [sys.executable, "-m", "mypy", *options, "program.py", "script.py"]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    notes = [line.partition("note: ")[2] for line in done.stdout.splitlines() if "note: " in line]
    assert (done.returncode, notes) == (
        0,
        ['Revealed type is "imgindex.index.ImageIndex"', 'Revealed type is "float"'],
    ), done.stdout
