"""`imgindex repair`: what it repairs, what it drops, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

from forking import Run


def damage_the_last_vector(folder: Path) -> None:
    segment = folder / ".imgindex/segments/000001.vec"
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    segment.write_bytes(data)


def test_a_damaged_vector_is_made_again_from_its_image(run: Run, here: Path) -> None:
    assert run("repair").stderr == "nothing was damaged\n"
    damage_the_last_vector(here)
    assert run("verify", "--full").returncode == 1
    done = run("repair")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines()[-1] == "1 vector made again, 0 images dropped"
    assert run("verify", "--full").returncode == 0
    assert len(json.loads(run("list", "--json").stdout)) == 12


def test_an_image_whose_vector_cannot_be_made_again_is_dropped_by_name_with_3(run: Run, here: Path) -> None:
    damage_the_last_vector(here)
    last = max(json.loads(run("list", "--json").stdout), key=lambda image: image["id"])["path"]
    (here / last).unlink()
    done = run("repair", "--json")
    assert done.returncode == 3
    assert [one["path"] for one in json.loads(done.stdout)["dropped"]] == [last]
    assert run("verify", "--full").returncode == 0
