"""The contract of the command line, through real processes: what is printed where, and the exit codes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_commands import watched
from forking import Run
from pictures import draw
from small_recipe import SMALL


def test_an_answer_goes_to_a_file_in_the_format_of_its_ending(run: Run, added: Path, tmp_path: Path) -> None:
    result = run("list", "--out", "images.csv")
    assert (result.returncode, result.stdout) == (0, "")
    with (tmp_path / "images.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 12
    assert run("list", "--out", "images.xyz").returncode == 2


def test_a_folder_without_images_is_reported_and_cannot_be_clustered(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run("add", "empty", *SMALL, "--json")
    assert (result.returncode, json.loads(result.stdout)["found"]) == (0, 0)
    assert "no images" in result.stderr
    result = run("cluster", "-k", "2")
    assert (result.returncode, result.stdout) == (1, "")
    assert "no images" in result.stderr


@pytest.mark.parametrize("command", [["list"], ["export"]])
def test_a_file_that_cannot_be_written_is_named_in_one_line(run: Run, added: Path, command: list[str]) -> None:
    result = run(*command, "--out", "nowhere/x.csv")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "imgindex: error: No such file or directory: nowhere/x.csv\n"


def test_pictures_are_embedded_without_torch(run: Run, folder: Path, tmp_path: Path) -> None:
    result = run("add", "pictures", *SMALL, env=watched(tmp_path))
    assert result.returncode == 0
    assert "OPENED BY A DECODER" in result.stderr
    assert "IMPORTED openvino" in result.stderr
    assert "IMPORTED torch" not in result.stderr
    draw(tmp_path / "new.png", 99)
    result = run("similar", "new.png", env=watched(tmp_path))
    assert result.returncode == 0
    assert "IMPORTED openvino" in result.stderr
    assert "IMPORTED torch" not in result.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["similar", "pictures/a/0.png"], ["add", "pictures"], ["status"]])
def test_light_commands_import_neither_openvino_nor_torch_nor_pandas(
    run: Run, added: Path, tmp_path: Path, arguments: list[str]
) -> None:
    result = run(*arguments, env=watched(tmp_path))
    assert result.returncode == 0
    assert "IMPORTED" not in result.stderr


def test_a_reader_that_leaves_early_is_not_an_error(added: Path, tmp_path: Path) -> None:
    command = f"{sys.executable} -m imgindex list --format json | head -c 1"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_a_full_disk_behind_stdout_is_one_line_and_an_error(added: Path, tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "imgindex", "list"]
        result = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.strip() == "imgindex: error: No space left on device"
