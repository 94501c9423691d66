"""`imgindex verify`: the damage that it names."""

from __future__ import annotations

import json
from pathlib import Path

from forking import Run


def test_verify_names_a_damaged_vector_and_ends_with_one(run: Run, added: Path, tmp_path: Path) -> None:
    segment = tmp_path / ".imgindex" / "segments" / "000001.vec"
    data = bytearray(segment.read_bytes())
    data[4096 + 2048 * 3 + 5] ^= 1
    segment.write_bytes(data)
    assert run("verify").returncode == 0
    result = run("verify", "--full", "--json")
    assert result.returncode == 1
    (problem,) = json.loads(result.stdout)["problems"]
    assert (problem["kind"], problem["subject"]) == ("vector", "image 4")
