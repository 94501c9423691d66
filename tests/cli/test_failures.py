"""`imgindex failures`: the ledger of files that could not be read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from cli_commands import watched
from forking import Run
from pictures import draw
from PIL import Image
from small_recipe import SMALL


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
    assert "IMPORTED" not in again.stderr
