"""The benchmark that users run on their own images: it measures every step, and keeps nothing."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from bench_steps import STEPS
from pictures import contents, twelve_and_a_broken_one

import imgindex
from imgindex import Engine
from imgindex.errors import PathNotFound, UsageError


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return twelve_and_a_broken_one(tmp_path / "pictures")


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
