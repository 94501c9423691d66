"""The contract of the command line, through real processes: what is printed where, and the exit codes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from forking import Run
from pictures import draw
from PIL import Image
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


def test_a_hard_folder_ends_with_three_and_a_ledger_and_is_not_opened_again(run: Run, tmp_path: Path) -> None:
    hard = tmp_path / "hard"
    draw(hard / "good.jpg", 1, size=(60, 40))
    whole = (hard / "good.jpg").read_bytes()
    (hard / "text.jpg").write_text("not a picture")
    (hard / "empty.jpg").touch()
    (hard / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    # A GIF of 44 bytes that claims 65,535 × 65,535 pixels.
    bomb = b"GIF89a" + b"\xff\xff\xff\xff" + b"\x80\x00\x00" + b"\x00\x00\x00\xff\xff\xff"
    bomb += (
        b"\x21\xf9\x04\x00\x00\x00\x00\x00" + b"\x2c\x00\x00\x00\x00\xff\xff\xff\xff\x00" + b"\x02\x02\x44\x01\x00\x3b"
    )
    (hard / "bomb.gif").write_bytes(bomb)
    palette = Image.new("P", (30, 30))
    palette.putpalette([200, 10, 10, 10, 200, 10])
    palette.save(hard / "palette.png", transparency=0)
    Image.new("CMYK", (30, 30), (10, 200, 30, 0)).save(hard / "cmyk.jpg")
    Image.fromarray(np.full((30, 30), 40_000, dtype=np.uint16)).save(hard / "sixteen.png")
    for number, name in enumerate(["with space", "quo\"te's", "new\nline", os.fsdecode(b"caf\xe9")]):
        draw(hard / f"{name}.png", number + 20)

    result = run("add", "hard", *SMALL, "--json")
    assert result.returncode == 3, result.stderr
    report = json.loads(result.stdout)
    assert (report["found"], report["added"], report["failed"]) == (12, 8, 4)
    ledger = json.loads(run("failures", "--json").stdout)
    assert {Path(failure["path"]).name for failure in ledger} == {"text.jpg", "empty.jpg", "truncated.jpg", "bomb.gif"}
    assert all(failure["reason"] and failure["stage"] in ("read", "decode") for failure in ledger)
    for failure in ledger:
        assert Path(failure["path"]).name in result.stderr
    paths = run("list", "--format", "json").stdout
    assert {"hard/new\nline.png", os.fsdecode(b"hard/caf\xe9.png")} < {image["path"] for image in json.loads(paths)}

    again = run("add", "hard", "--json", env=watched(tmp_path))
    assert again.returncode == 3
    report = json.loads(again.stdout)
    assert (report["unchanged"], report["failed"], report["added"]) == (8, 4, 0)
    assert "OPENED" not in again.stderr
    assert "IMPORTED torch" not in again.stderr


def watched(tmp_path: Path) -> dict[str, str]:
    """An environment whose interpreter prints on stderr which pictures it opens, and whether it imports torch."""
    hooks = tmp_path / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "sitecustomize.py").write_text(
        "import sys\n"
        "def hook(event, arguments):\n"
        "    if event == 'open' and str(arguments[0]).endswith(('.png', '.jpg', '.gif')):\n"
        "        sys.stderr.write(f'OPENED {ascii(arguments[0])}\\n')\n"
        "    if event == 'import' and arguments[0] in ('torch', 'torchvision', 'pandas'):\n"
        "        sys.stderr.write(f'IMPORTED {arguments[0]}\\n')\n"
        "sys.addaudithook(hook)\n"
    )
    return {"PYTHONPATH": str(hooks)}


def test_the_audit_hook_sees_pictures_opened_and_torch_imported(run: Run, folder: Path, tmp_path: Path) -> None:
    result = run("add", "pictures", *SMALL, env=watched(tmp_path))
    assert "OPENED" in result.stderr
    assert "IMPORTED torch" in result.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["similar", "pictures/a/0.png"], ["add", "pictures"], ["status"]])
def test_light_commands_import_neither_torch_nor_pandas(
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
