"""The benchmark that users run on their own images: it measures every step, and keeps nothing."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest
from forking import Run
from pictures import contents, draw

import imgindex
from imgindex import Engine, ImageIndex
from imgindex.errors import PathNotFound, UsageError

STEPS = ["scan", "read", "decode in processes", "decode", "transform", "forward", "write"]
SMALL = ["--recipe", "vgg16-pool5", "--size", "32", "--batch-size", "2"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(12):
        draw(tmp_path / "pictures" / f"{number}.png", number, (64, 48))
    (tmp_path / "pictures/broken.jpg").write_bytes(b"this is not an image")
    return tmp_path / "pictures"


def test_every_step_is_measured_on_all_images_alone_and_together(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    engine = Engine(device="cpu", batch_size=2, workers=3)
    report = imgindex.benchmark([pictures], recipe="vgg16-pool5", size=32, engine=engine)
    assert [step.name for step in report.steps] == STEPS
    rates = {step.name: step.images_per_second for step in report.steps}
    assert min(rates.values()) > 0
    assert (report.images, report.unreadable, report.workers, report.batch_size) == (12, 1, 3, 2)
    assert (report.recipe, report.side, report.device) == ("vgg16-pool5", 32, "cpu")
    # The steps share a CPU, so their times add up.
    assert report.ceiling < min(rates[name] for name in ("read", "decode in processes", "forward", "write"))
    assert report.together > 0
    assert report.limit in rates
    assert contents(tmp_path) == before


def test_a_sample_is_taken_evenly(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (pictures / "broken.jpg").unlink()
    report = imgindex.benchmark([pictures], recipe="vgg16-pool5", size=32, images=4)
    assert {step.name: step.images for step in report.steps if step.name != "forward"} == {
        "scan": 12, "read": 4, "decode in processes": 4, "decode": 4, "transform": 4, "write": 4
    }  # fmt: skip


def test_the_command_prints_a_table_and_the_step_that_limits(run: Run, pictures: Path, tmp_path: Path) -> None:
    before = contents(tmp_path / "pictures")
    done = run("bench", pictures, *SMALL)
    assert done.returncode == 0, done.stderr
    assert [line.split("  ")[0] for line in done.stdout.splitlines()[2:]] == [*STEPS, "together"]
    assert "ceiling" in done.stderr
    assert "vgg16-pool5 at 32 px" in done.stderr
    assert contents(tmp_path / "pictures") == before
    assert not [name for name in os.listdir(tmp_path) if "imgindex" in name]


def test_the_json_of_the_command_holds_the_whole_report(run: Run, pictures: Path) -> None:
    done = run("bench", pictures, *SMALL, "--json", "--quiet")
    report = json.loads(done.stdout)
    assert [step["name"] for step in report["steps"]] == STEPS
    assert {"ceiling", "together", "limit", "precision", "streams", "megabytes"} <= set(report)
    assert done.stderr == ""


def test_with_an_index_its_recipe_is_measured(run: Run, pictures: Path, tmp_path: Path) -> None:
    with ImageIndex.create(tmp_path / "it.imgindex", recipe="vgg16-pool5", size=64):
        pass
    done = run("bench", pictures, "--index", tmp_path / "it.imgindex", "--images", "3", "--json", "--quiet")
    assert json.loads(done.stdout)["side"] == 64
    assert run("bench", pictures, "--index", tmp_path / "it.imgindex", "--size", "32").returncode == 1
    assert run("bench", pictures, "--index", tmp_path / "none").returncode == 1


def test_without_a_readable_image_it_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/it.jpg").write_bytes(b"this is not an image")
    for folder in ("empty", "bad"):
        with pytest.raises(UsageError, match="no image at these paths can be read"):
            imgindex.benchmark([folder], recipe="vgg16-pool5", size=32)
    with pytest.raises(PathNotFound):
        imgindex.benchmark(["nowhere"], recipe="vgg16-pool5", size=32)
    with pytest.raises(UsageError, match="images is 0") as error:
        imgindex.benchmark([tmp_path], recipe="vgg16-pool5", size=32, images=0)
    assert error.value.hint == "measure at least one image"
    assert sorted(os.listdir(tmp_path)) == ["bad", "empty"]


def test_no_public_name_is_that_of_a_module_which_would_hide_it_once_imported() -> None:
    assert [name for name in imgindex.__all__ if importlib.util.find_spec(f"imgindex.{name}")] == []
