"""`imgindex add`: what it reports, the recipe that it chooses, and what is kept when it is interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from forking import Run
from pictures import draw
from small_recipe import SMALL

COUNTS = ["found", "added", "updated", "renamed", "unchanged", "reused", "removed", "restored", "failed"]


def test_add_reports_in_json_exactly_what_the_contract_names(run: Run, folder: Path) -> None:
    result = run("add", "pictures", *SMALL, "--json")
    assert result.returncode == 0
    report = json.loads(result.stdout)
    assert list(report) == [*COUNTS, "seconds", "images_per_second"]
    assert (report["found"], report["added"], report["failed"]) == (12, 12, 0)


def test_a_second_add_reports_all_images_as_unchanged(run: Run, added: Path) -> None:
    report = json.loads(run("add", "pictures", "--json").stdout)
    assert (report["found"], report["unchanged"], report["added"]) == (12, 12, 0)


def test_add_without_options_chooses_a_recipe_and_prints_the_reason(run: Run, tmp_path: Path) -> None:
    draw(tmp_path / "one" / "a.png", 1)
    result = run("add", "one")
    assert result.returncode == 0
    assert "vgg16-pool5" in result.stderr
    assert "cannot be downloaded" in result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 5
    assert lines[-3:] == [
        "next: cluster the images, or search",
        "  imgindex cluster -k auto",
        "  imgindex similar IMAGE",
    ]


def test_a_named_recipe_is_not_swapped_when_its_weights_are_missing(run: Run, folder: Path, tmp_path: Path) -> None:
    result = run("add", "pictures", "--recipe", "vgg16-fc1")
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert "--weights FILE" in line
    assert "vgg16-pool5" in line
    assert not (tmp_path / ".imgindex").exists()


def test_another_recipe_for_an_index_is_refused(run: Run, added: Path) -> None:
    result = run("add", "pictures", "--recipe", "vgg16-pool5", "--size", "64")
    assert result.returncode == 1
    assert "32" in result.stderr
    assert "64" in result.stderr


def test_a_dry_run_says_what_would_be_done_and_does_not(run: Run, folder: Path, tmp_path: Path) -> None:
    result = run("add", "pictures", "--dry-run", "--json")
    assert json.loads(result.stdout)["added"] == 12
    assert not (tmp_path / ".imgindex").exists()


def test_kill_in_the_middle_loses_at_most_the_batch_in_flight(run: Run, tmp_path: Path) -> None:
    for number in range(80):
        draw(tmp_path / "many" / f"{number}.png", number, size=(200, 200))
    command = [sys.executable, "-m", "imgindex", "add", "many", "--recipe", "vgg16-pool5", "--size", "96"]
    process = subprocess.Popen([*command, "--batch-size", "4"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    rows = tmp_path / ".imgindex" / "segments" / "000001.vec"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (rows.exists() and rows.stat().st_size > 4096 + 5 * 2048):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run("verify", "--full").returncode == 0
    kept = json.loads(run("status", "--json").stdout)["images"]
    assert 4 <= kept < 80
    report = json.loads(run("add", "many", "--json").stdout)
    assert (report["unchanged"], report["added"]) == (kept, 80 - kept)
    assert run("verify", "--full").returncode == 0


def test_ctrl_c_finishes_the_batch_and_ends_with_130(run: Run, tmp_path: Path) -> None:
    for number in range(80):
        draw(tmp_path / "many" / f"{number}.png", number, size=(200, 200))
    command = [sys.executable, "-m", "imgindex", "add", "many", "--recipe", "vgg16-pool5", "--size", "96"]
    process = subprocess.Popen(
        [*command, "--batch-size", "4"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    rows = tmp_path / ".imgindex" / "segments" / "000001.vec"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not rows.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    kept = json.loads(run("status", "--json").stdout)["images"]
    assert 4 <= kept < 80
    assert kept % 4 == 0
