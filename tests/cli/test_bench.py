"""`imgindex bench`: a table or JSON of what each step takes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from bench_steps import STEPS
from forking import Run
from pictures import contents, twelve_and_a_broken_one

from imgindex import ImageIndex


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return twelve_and_a_broken_one(tmp_path / "pictures")


SMALL = ["--recipe", "vgg16-pool5", "--size", "32", "--batch-size", "2"]


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
