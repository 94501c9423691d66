"""What every pipeline must do, on this machine or on the nodes of a real Ray cluster: the same reports and vectors."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from add_checks import KINDS, later, spoil
from archived import pack
from pictures import draw
from ray_nodes import ADDRESS, RayNodes, answer

from imgindex import ImageIndex
from imgindex.storage.segments import HEADER_SIZE

SAME_ARITHMETIC = ("--precision", "fp32")
PIPELINES = {"this machine": (), "Ray": ("--ray", ADDRESS)}
# Drawn pictures with numbers that differ in the last bit would show it.
PICTURES = 60

Add = Callable[..., dict[str, Any]]


@pytest.fixture(params=PIPELINES)
def pipeline(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The options of the command that choose a pipeline."""
    return PIPELINES[request.param]


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """A folder of pictures, no two of them alike, some in an archive."""
    from PIL import Image

    for number in range(PICTURES):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        path = tmp_path / "pictures" / str(number % 3) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "pictures"


@pytest.fixture
def command(nodes: RayNodes, tmp_path: Path, pipeline: tuple[str, ...]) -> Add:
    """Run `imgindex COMMAND … --json` on the pipeline; return its answer."""

    def command(name: str, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
        options = ("--index", tmp_path / "it.imgindex", *SAME_ARITHMETIC, *pipeline, "--json")
        found: dict[str, Any] = answer(nodes.run(name, *arguments, *options), code)
        return found

    return command


def counts(report: dict[str, Any]) -> dict[str, int]:
    assert sum(report[kind] for kind in KINDS) == report["found"], report
    return {kind: report[kind] for kind in (*KINDS, "removed", "blank") if report[kind]}


def test_each_change_of_a_file_is_what_it_is_on_one_machine(command: Add, noise: Path, tmp_path: Path) -> None:
    shutil.copy(noise / "0/0.png", noise / "copy.png")
    shutil.copy(noise / "0/0.png", noise / "copy too.png")
    draw(noise / "plain.png", 3)
    spoil(noise / "b.jpg")
    spoil(noise / "a.jpg", "nor is this one")
    spoil(noise / "empty.png", "")
    pack(tmp_path / "some.zip", {f"cat/{number}.png": (noise / f"1/{number}.png").read_bytes() for number in (1, 4)})
    (noise / "1/1.png").unlink()
    size = ("--recipe", "vgg16-pool5", "--size", "32")
    first = command("add", noise, tmp_path / "some.zip", *size, code=3)
    # The copies, and the member of the archive that is a file of the folder too.
    assert counts(first) == {"added": PICTURES + 1, "reused": 3, "failed": 3, "blank": 1}
    with ImageIndex.open(tmp_path / "it.imgindex") as index:
        assert [(Path(one.path).name, one.stage) for one in index.failures()] == [
            ("a.jpg", "decode"), ("b.jpg", "decode"), ("empty.png", "read")
        ]  # fmt: skip
        ids = {Path(image.path).name: image.id for image in index.images()}
        assert str(tmp_path / "some.zip/cat/1.png") in index.paths()
        assert index.verify(full=True).ok
    (noise / "0/3.png").rename(noise / "renamed.png")
    shutil.copy(noise / "0/6.png", noise / "late copy.png")
    later(noise / "0/9.png")
    later(draw(noise / "0/12.png", 9))
    (noise / "0/15.png").unlink()
    draw(noise / "new.png", (1, 200, 3))
    spoil(noise / "b.jpg", "still not a picture")
    second = command("add", noise, tmp_path / "some.zip", code=3)
    assert {**counts(second), "unchanged": 0} == {
        "added": 1, "updated": 1, "renamed": 1, "reused": 1, "removed": 1, "failed": 3, "blank": 2, "unchanged": 0
    }  # fmt: skip
    with ImageIndex.open(tmp_path / "it.imgindex") as index:
        now = {Path(image.path).name: image.id for image in index.images()}
        assert now["renamed.png"] == ids["3.png"]
        assert now["12.png"] == ids["12.png"]
        assert "3.png" not in now
        assert "15.png" not in now
        assert index.verify(full=True).ok
    third = command("add", noise, tmp_path / "some.zip", "--rehash", code=3)
    assert counts(third) == {"unchanged": first["found"] - first["failed"] + 1, "failed": 3}


def test_a_lost_vector_is_made_again(command: Add, noise: Path, tmp_path: Path) -> None:
    command("add", noise / "0", "--recipe", "vgg16-pool5", "--size", "32")
    with ImageIndex.open(tmp_path / "it.imgindex") as index:
        before = index.vectors()
    (segment,) = (tmp_path / "it.imgindex/segments").glob("*.vec")
    data = bytearray(segment.read_bytes())
    data[HEADER_SIZE + 100] ^= 255
    segment.write_bytes(data)
    (noise / "0/57.png").unlink()
    assert command("repair")["embedded"] == 1
    with ImageIndex.open(tmp_path / "it.imgindex") as index:
        assert np.array_equal(index.vectors(), before)
        assert index.verify(full=True).ok


def test_vectors_and_what_is_recorded_of_files_are_equal_to_the_bit(
    nodes: RayNodes, noise: Path, tmp_path: Path
) -> None:
    recorded = {}
    for name, options in PIPELINES.items():
        index = tmp_path / f"{name}.imgindex"
        add = ("add", noise, "--index", index, "--recipe", "vgg16-pool5", "--size", "32", "--json", *options)
        report = answer(nodes.run(*add))
        assert report["added"] == PICTURES
        with ImageIndex.open(index) as opened:
            vectors = {image: row.tobytes() for image, row in zip(opened.paths(), opened.vectors(), strict=True)}
        columns = "sha256, size, mtime_ns, ctime_ns, inode, version, width, height, format, present, hashes, blank"
        with sqlite3.connect(index / "catalogue.db") as catalogue:
            rows = dict(catalogue.execute(f"select path, json_array({_hex(columns)}) from images"))
        catalogue.close()
        recorded[name] = vectors, rows
    assert recorded["Ray"] == recorded["this machine"]


def _hex(columns: str) -> str:
    return ", ".join(f"hex({name})" for name in columns.split(", "))
