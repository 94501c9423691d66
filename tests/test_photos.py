"""Real labelled photos, by the command line alone: how good the answers of the shipped network are, and re-runs."""

from __future__ import annotations

import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

# What a person may set outside, and what would change the answers here.
OUTSIDE = ("IMGINDEX_DIR", "PYTHONPATH")

# Imported by Python before anything else: writes down which files are opened and which modules are imported.
SPY = """
import atexit, os, sys

seen = []
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        seen.append("open " + ascii(os.fsdecode(arguments[0])))
    elif event == "import":
        seen.append("import " + arguments[0])

def tell():
    with open(os.environ["SPY_REPORT"], "w") as file:
        file.write("\\n".join(list(seen)))

sys.addaudithook(watch)
atexit.register(tell)
"""


@dataclass(frozen=True)
class Collection:
    """Photos as CLASS/FILE in `folder`, and the index beside them that `add` made; `added` is what it said."""

    folder: Path
    files: list[str]
    added: dict[str, Any]

    @property
    def classes(self) -> dict[str, str]:
        return {file: file.split("/")[0] for file in self.files}

    def imgindex(self, *arguments: str, environment: dict[str, str] | None = None) -> str:
        return imgindex(self.folder, *arguments, environment=environment)


def imgindex(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> str:
    """Run the command in the folder, without a way to the web, and return what it said."""
    inherited = {name: value for name, value in os.environ.items() if name not in OUTSIDE}
    web = {"TORCH_HOME": str(folder.parent / "torch"), "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "imgindex", *arguments],
        cwd=folder,
        env=inherited | web | (environment or {}),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def collection(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    folder = tmp_path_factory.mktemp("photos") / "photos"
    folder.mkdir()
    with tarfile.open(photos / "photos-dev.tar") as archive:
        archive.extractall(folder, filter="data")
    files = sorted(file.relative_to(folder).as_posix() for file in folder.glob("*/*"))
    added = json.loads(imgindex(folder, "add", ".", "--recipe", "vgg16-pool5", "--json"))
    return Collection(folder, files, added)


def precisions(ranked: list[bool]) -> tuple[float, float]:
    """Precision of the first answer, and the average precision over all of them."""
    right = np.asarray(ranked, dtype=float)
    at = right.cumsum() / np.arange(1, len(right) + 1)
    return float(right[0]), float((at * right).sum() / right.sum())


def test_every_photo_becomes_a_vector(collection: Collection) -> None:
    said = collection.added
    assert len(collection.files) > 100
    assert (said["found"], said["failed"]) == (len(collection.files), 0)
    assert said["added"] + said["reused"] == len(collection.files)


def test_the_nearest_photos_show_the_same_thing(collection: Collection) -> None:
    classes = collection.classes
    answers = json.loads(collection.imgindex("similar", *collection.files, "-n", "1000", "--json"))
    assert [answer["query"] for answer in answers] == collection.files
    scores = []
    for answer in answers:
        others = [match["path"] for match in answer["matches"]]
        assert sorted([*others, answer["query"]]) == collection.files
        scores.append(precisions([classes[other] == classes[answer["query"]] for other in others]))
    first, average = (statistics.mean(column) for column in zip(*scores, strict=True))
    print(f"P@1 {first:.4f}, mAP {average:.4f}")
    assert first >= 0.92
    assert average >= 0.79


def test_clusters_follow_what_the_photos_show(collection: Collection, tmp_path: Path) -> None:
    found = []
    for seed in range(5):
        out = tmp_path / f"{seed}.csv"
        collection.imgindex("cluster", "-k", "9", "--id", "path", "--seed", str(seed), "--out", str(out))
        with out.open(newline="") as file:
            labels = {row["ImageID"]: int(row["label"]) for row in csv.DictReader(file)}
        assert sorted(labels) == collection.files
        assert set(labels.values()) == set(range(9))
        found.append(
            normalized_mutual_info_score(list(collection.classes.values()), [labels[f] for f in collection.files])
        )
    print("NMI", [round(one, 4) for one in found])
    assert statistics.median(found) >= 0.77


def spied(collection: Collection, tmp_path: Path, *arguments: str) -> tuple[dict[str, Any], set[str], set[str]]:
    """Return the answer of a command, the modules that its process imported and the files that it opened."""
    report = tmp_path / "report"
    (tmp_path / "sitecustomize.py").write_text(SPY)
    environment = {"PYTHONPATH": str(tmp_path), "SPY_REPORT": str(report)}
    said = json.loads(collection.imgindex(*arguments, environment=environment))
    lines = [line.partition(" ") for line in report.read_text().splitlines()]
    modules = {name.partition(".")[0] for kind, _, name in lines if kind == "import"}
    opened = {Path(name[1:-1]).name for kind, _, name in lines if kind == "open"}
    return said, modules, opened


def test_a_second_run_opens_no_photo_and_does_not_import_torch(collection: Collection, tmp_path: Path) -> None:
    said, modules, opened = spied(collection, tmp_path, "add", ".", "--json")
    assert (said["found"], said["unchanged"]) == (len(collection.files), len(collection.files))
    assert "imgindex" in modules
    assert not modules & {"torch", "torchvision"}
    assert not opened & {Path(file).name for file in collection.files}


def test_what_the_spy_sees_of_a_run_with_a_new_photo(collection: Collection, tmp_path: Path) -> None:
    # Else the test above would pass with a blind spy.
    folder = tmp_path / "one"
    folder.mkdir()
    shutil.copy(collection.folder / collection.files[0], folder / "copy.png")
    said, modules, opened = spied(collection, tmp_path, "add", str(folder), "--index", str(tmp_path / "i"), "--json")
    assert said["added"] == 1
    assert "copy.png" in opened
    assert "torch" in modules
