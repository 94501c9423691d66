"""Real labelled photos through the command line: the quality of the shipped network's answers, and repeated runs."""

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
from forking import ForkServer
from sklearn.metrics import (
    adjusted_rand_score,
    homogeneity_completeness_v_measure,
    normalized_mutual_info_score,
)

# Variables of the caller's environment that would change the answers.
CALLERS_VARIABLES = ("IMGINDEX_DIR", "PYTHONPATH")

# Python imports this before anything else. It records which files are opened and which modules are imported.
SPY = """
import atexit, os, sys

seen = []
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        seen.append("open " + ascii(os.fsdecode(arguments[0])))
    elif event == "import":
        seen.append("import " + arguments[0])
    elif event == "subprocess.Popen":
        seen.extend("open " + ascii(os.fsdecode(argument)) for argument in arguments[1])

def write_report():
    with open(os.environ["SPY_REPORT"], "w") as file:
        file.write("\\n".join(list(seen)))

sys.addaudithook(watch)
atexit.register(write_report)
"""


@dataclass(frozen=True)
class Collection:
    """Photos as CLASS/FILE in `folder`, with an index; `added` is the report of the `add` that made it.

    That was a process of its own, as are those with an environment of their own.
    """

    folder: Path
    files: list[str]
    added: dict[str, Any]
    server: ForkServer

    @property
    def classes(self) -> dict[str, str]:
        return {file: file.split("/")[0] for file in self.files}

    def imgindex(self, *arguments: str, environment: dict[str, str] | None = None) -> str:
        if environment is not None:
            return imgindex(self.folder, *arguments, environment=environment)
        done = self.server.run(*arguments, folder=self.folder)
        assert done.code == 0, done.stderr
        return done.stdout.decode()


def imgindex(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> str:
    """Run the command in the folder, without access to the network, and return its output."""
    inherited = {name: value for name, value in os.environ.items() if name not in CALLERS_VARIABLES}
    offline = {"TORCH_HOME": str(folder.parent / "torch"), "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "imgindex", *arguments],
        cwd=folder,
        env=inherited | offline | (environment or {}),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def collection(photos: Path, server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    folder = tmp_path_factory.mktemp("photos") / "photos"
    folder.mkdir()
    with tarfile.open(photos / "photos-dev.tar") as archive:
        archive.extractall(folder, filter="data")
    files = sorted(file.relative_to(folder).as_posix() for file in folder.glob("*/*"))
    added = json.loads(imgindex(folder, "add", ".", "--recipe", "vgg16-pool5", "--json"))
    return Collection(folder, files, added, server)


def precisions(ranked: list[bool]) -> tuple[float, float]:
    """Return the precision of the first answer, and the average precision over all of them."""
    right = np.asarray(ranked, dtype=float)
    at = right.cumsum() / np.arange(1, len(right) + 1)
    return float(right[0]), float((at * right).sum() / right.sum())


def test_every_photo_becomes_a_vector(collection: Collection) -> None:
    report = collection.added
    assert len(collection.files) > 100
    assert (report["found"], report["failed"]) == (len(collection.files), 0)
    assert report["added"] + report["reused"] == len(collection.files)


def test_the_nearest_photos_are_of_the_same_class(collection: Collection) -> None:
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


def test_clusters_correspond_to_the_classes(collection: Collection, tmp_path: Path) -> None:
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


def test_the_automatic_number_of_clusters_is_near_the_number_of_classes(collection: Collection) -> None:
    found = json.loads(collection.imgindex("cluster", "-k", "auto", "--id", "path", "--json"))
    silhouettes = {score["k"]: score["silhouette"] for score in found["curve"]}
    print(f"-k auto chose {found['k']} for {len(set(collection.classes.values()))} classes")
    assert 5 <= found["k"] <= 12
    assert silhouettes[found["k"]] == max(silhouettes.values())
    assert set(silhouettes) == set(range(2, 41))


def test_an_evaluation_by_folder_gives_scikit_learns_scores(collection: Collection) -> None:
    made = json.loads(collection.imgindex("cluster", "-k", "9", "--id", "path", "--json"))
    found = json.loads(collection.imgindex("cluster", "evaluate", "--by-folder", "--json"))
    labels = {row["ImageID"]: row["label"] for row in made["images"]}
    truth = [collection.classes[file] for file in collection.files]
    predicted = [labels[file] for file in collection.files]
    assert found["ari"] == pytest.approx(adjusted_rand_score(truth, predicted))
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(truth, predicted))
    scores = homogeneity_completeness_v_measure(truth, predicted)
    assert [found[name] for name in ("homogeneity", "completeness", "v_measure")] == pytest.approx(scores)
    counts = np.array(found["confusion"])
    assert counts.sum() == len(collection.files)
    assert found["purity"] == pytest.approx(counts.max(axis=1).sum() / counts.sum())


def test_anchors_make_clusters_of_their_class(collection: Collection) -> None:
    by_class: dict[str, list[str]] = {}
    for file, name in collection.classes.items():
        by_class.setdefault(name, []).append(file)
    anchors = [f"--anchor={name}={','.join(files[:3])}" for name, files in by_class.items()]
    found = json.loads(collection.imgindex("cluster", *anchors, "--id", "path", "--with", "name", "--json"))
    right = [row["name"] == collection.classes[row["ImageID"]] for row in found["images"]]
    print(f"three anchors for each class: {statistics.mean(right):.3f} of the photos in the cluster of their class")
    assert found["k"] == len(by_class)
    assert statistics.mean(right) >= 0.8


def test_photos_that_were_held_out_are_assigned_to_the_cluster_of_their_class(collection: Collection) -> None:
    held_out = "id % 3 = 0"
    collection.imgindex("cluster", "-k", "9", "--id", "path", "--where", f"not ({held_out})", "--json")
    (*_, newest) = json.loads(collection.imgindex("clusterings", "--json"))
    kept = json.loads(collection.imgindex("clusterings", "show", str(newest["id"]), "--json"))
    of_label: dict[str, list[str]] = {}
    for row in kept["images"]:
        of_label.setdefault(row["label"], []).append(collection.classes[row["ImageID"]])
    found = json.loads(collection.imgindex("clusterings", "assign", str(newest["id"]), "--json"))
    assert len(found["assigned"]) + len(kept["images"]) == len(collection.files)
    right = [
        collection.classes[one["path"]] == statistics.mode(of_label[str(one["label"])]) for one in found["assigned"]
    ]
    margins = [one["margin"] for one in found["assigned"]]
    print(f"{statistics.mean(right):.3f} of {len(right)} held-out photos in the cluster of their class")
    assert statistics.mean(right) >= 0.75
    sure = [one for one, margin in zip(right, margins, strict=True) if margin >= statistics.median(margins)]
    assert statistics.mean(sure) >= statistics.mean(right)


def spied(collection: Collection, tmp_path: Path, *arguments: str) -> tuple[dict[str, Any], set[str], set[str]]:
    """Return the output of a command, the modules that its process imported and the files that it opened or ran."""
    spy_report = tmp_path / "report"
    (tmp_path / "sitecustomize.py").write_text(SPY)
    environment = {"PYTHONPATH": str(tmp_path), "SPY_REPORT": str(spy_report)}
    output = json.loads(collection.imgindex(*arguments, environment=environment))
    lines = [line.partition(" ") for line in spy_report.read_text().splitlines()]
    modules = {name.partition(".")[0] for kind, _, name in lines if kind == "import"}
    opened = {Path(name[1:-1]).name for kind, _, name in lines if kind == "open"}
    return output, modules, opened


def test_a_second_run_opens_no_photo_and_makes_no_network(collection: Collection, tmp_path: Path) -> None:
    report, modules, opened = spied(collection, tmp_path, "add", ".", "--json")
    assert (report["found"], report["unchanged"]) == (len(collection.files), len(collection.files))
    assert "imgindex" in modules
    assert not modules & {"openvino", "torch", "torchvision"}
    assert not opened & {"worker.py", *(Path(file).name for file in collection.files)}


def test_a_run_with_a_new_photo_opens_it_and_makes_the_network(collection: Collection, tmp_path: Path) -> None:
    # This shows that the spy of the test above records such events at all.
    folder = tmp_path / "one"
    folder.mkdir()
    shutil.copy(collection.folder / collection.files[0], folder / "copy.png")
    report, modules, opened = spied(collection, tmp_path, "add", str(folder), "--index", str(tmp_path / "i"), "--json")
    assert report["added"] == 1
    assert "worker.py" in opened  # a decoder process
    assert "openvino" in modules
    assert "torch" not in modules
