"""Files that are compared with an index and not added: new, exact, near or failed, of which image, and how turned."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from collections_of import of_vectors, quarters
from conftest import GRID_RECIPE, GridMean, Run, contents, draw

import imgindex.curating.checking
from imgindex import ImageIndex
from imgindex.answers.curation import Checked
from imgindex.errors import PathNotFound, UsageError

RED, GREEN, BLUE, BLACK = (250, 0, 0), (0, 250, 0), (0, 0, 250), (0, 0, 0)


@pytest.fixture
def known(tmp_path: Path) -> Iterator[ImageIndex]:
    """An index of one picture of four colours and a grey one."""
    quarters(tmp_path / "known/colours.png", RED, GREEN, BLUE, BLACK)
    draw(tmp_path / "known/grey.png", (128, 128, 128))
    with ImageIndex.create(tmp_path / "it.imgindex", recipe=GRID_RECIPE) as index:
        index.embedder = GridMean()
        index.add([tmp_path / "known"])
        yield index


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    """A copy, a near one, a turned one, one that is new and one that is none."""
    folder = tmp_path / "incoming"
    quarters(folder / "near.png", (240, 0, 0), GREEN, BLUE, BLACK)
    quarters(folder / "turned.png", BLUE, RED, BLACK, GREEN)
    draw(folder / "white.png", (255, 255, 255))
    shutil.copy(tmp_path / "known/colours.png", folder / "copy.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def said(checked: list[Checked]) -> dict[str, tuple[str, str]]:
    return {Path(one.path).name: (one.status, Path(one.match or "").name) for one in checked}


def test_each_file_is_new_exact_near_or_failed_and_none_is_added(
    known: ImageIndex, incoming: Path, tmp_path: Path
) -> None:
    before = contents(tmp_path)
    checked = known.check([incoming], distance=0.1)
    assert [Path(one.path).name for one in checked] == ["broken.png", "copy.png", "near.png", "turned.png", "white.png"]
    assert said(checked) == {
        "broken.png": ("failed", ""),
        "copy.png": ("exact", "colours.png"),
        "near.png": ("near", "colours.png"),
        "turned.png": ("new", "grey.png"),
        "white.png": ("new", "grey.png"),
    }
    distances = {Path(one.path).name: one.distance for one in checked}
    assert distances["copy.png"] == 0
    assert distances["near.png"] == pytest.approx(10 / 255, rel=1e-4)
    assert distances["white.png"] == pytest.approx(12**0.5 * 127 / 255, rel=1e-4)
    assert checked[0].reason == "not an image that Pillow can read"
    assert contents(tmp_path) == before


def test_what_is_turned_is_near_on_request(known: ImageIndex, incoming: Path) -> None:
    (one,) = known.check([incoming / "turned.png"], distance=0.1, rotations=True)
    assert (one.status, one.turned) == ("near", "turned by 270°")
    assert one.distance == pytest.approx(0, abs=1e-5)
    (near,) = known.check([incoming / "near.png"], distance=0.1, rotations=True, flips=True)
    assert (near.status, near.turned) == ("near", "")


def test_copies_are_told_without_a_network_and_an_image_is_a_copy_of_itself(
    known: ImageIndex, incoming: Path, tmp_path: Path
) -> None:
    def none() -> GridMean:
        raise AssertionError("the network was asked for")

    means = known._means(None)
    shutil.copy(tmp_path / "known/grey.png", tmp_path / "known/a grey copy.png")
    known.add([tmp_path / "known"])
    checked = imgindex.curating.checking.check(
        known._store,
        [str(incoming / "copy.png"), str(tmp_path / "known")],
        0.1,
        {},
        type(means)(means.decoders, none, means.on_progress),
    )
    assert said(checked) == {
        "copy.png": ("exact", "colours.png"),
        "a grey copy.png": ("exact", "a grey copy.png"),
        "colours.png": ("exact", "colours.png"),
        "grey.png": ("exact", "grey.png"),
    }


def test_an_image_that_was_removed_is_no_match(known: ImageIndex, incoming: Path, tmp_path: Path) -> None:
    known.remove([tmp_path / "known/colours.png"])
    assert said(known.check([incoming / "copy.png"], distance=0.1)) == {"copy.png": ("new", "grey.png")}


def test_in_an_empty_index_every_picture_is_new(known: ImageIndex, tmp_path: Path, incoming: Path) -> None:
    with ImageIndex.create(tmp_path / "empty.imgindex", recipe=GRID_RECIPE) as index:
        index.embedder = GridMean()
        checked = index.check([incoming], distance=0.1)
    assert {one.status for one in checked} == {"new", "failed"}
    assert {(one.match, one.distance, one.id) for one in checked} == {(None, None, None)}


def test_a_path_that_is_missing_and_a_distance_that_nobody_measured_are_errors(
    known: ImageIndex, tmp_path: Path
) -> None:
    with pytest.raises(PathNotFound):
        known.check([tmp_path / "absent"], distance=0.1)
    with pytest.raises(UsageError, match="calibrated"):
        known.check([tmp_path / "known"])


def test_files_are_compared_with_20_000_vectors_as_an_exact_comparison_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imgindex.curating.checking, "QUERIES", 3)
    rng = np.random.default_rng(3)
    vectors = rng.uniform(0, 1, (20_000, 12)).astype(np.float32)
    for number in range(8):
        quarters(tmp_path / "new" / f"{number}.png", *rng.integers(0, 256, (4, 3)).tolist())
    with of_vectors(tmp_path / "it.imgindex", vectors) as index:
        checked = index.check([tmp_path / "new"], distance=0.5)
        again = ImageIndex.create(tmp_path / "new.imgindex", recipe=GRID_RECIPE)
        again.embedder = GridMean()
        with again:
            again.add([tmp_path / "new"])
            wanted = np.linalg.norm(again.vectors()[:, None] - vectors, axis=2)
    assert [Path(one.match).name for one in checked] == [f"{best}.png" for best in wanted.argmin(axis=1)]
    np.testing.assert_allclose([one.distance for one in checked], wanted.min(axis=1), rtol=1e-5)
    assert [one.status for one in checked] == ["near" if best <= 0.5 else "new" for best in wanted.min(axis=1)]


# the command, with the network of the package


@pytest.fixture
def indexed(run: Run, known: ImageIndex, tmp_path: Path) -> Path:
    assert run("add", "known", "--recipe", "vgg16-pool5", "--size", "32").returncode == 0
    return tmp_path


def test_the_command_lists_failures_and_ends_with_three(run: Run, indexed: Path, incoming: Path) -> None:
    result = run("check", "incoming")
    assert result.returncode == 3
    assert "1 failed, 1 exact" in result.stderr
    assert result.stdout.splitlines()[0].split() == ["status", "path", "match", "distance", "reason"]
    found = json.loads(run("check", "incoming", "--json").stdout)
    assert found[1] == {
        "path": "incoming/copy.png",
        "status": "exact",
        "match": "known/colours.png",
        "distance": 0.0,
        "turned": "",
        "id": 1,
        "reason": "",
    }
    assert run("check", "incoming/copy.png", "--format", "csv").returncode == 0


def test_paths_of_new_files_can_be_piped_into_add(run: Run, indexed: Path, incoming: Path) -> None:
    (incoming / "broken.png").unlink()
    odd = incoming / os.fsdecode(b"new \xff.png")
    draw(odd, (0, 255, 255))
    listed = b"\n".join(os.fsencode(path.relative_to(indexed)) for path in sorted(incoming.iterdir()))
    command = [sys.executable, "-m", "imgindex", "check", "-", "--distance", "0.001", "--format", "paths"]
    done = subprocess.run(command, cwd=indexed, input=listed, capture_output=True, check=True)
    assert b"incoming/copy.png" not in done.stdout
    assert b"incoming/new \xff.png\n" in done.stdout
    assert b"incoming/white.png\n" in done.stdout
