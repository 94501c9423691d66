"""`imgindex leak`: pairs of two sets, and the exit code of a leak."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from collections_of import leaking_sets
from forking import Run

from imgindex import ImageIndex


@pytest.fixture
def split(tmp_path: Path) -> Iterator[ImageIndex]:
    with leaking_sets(tmp_path) as index:
        yield index


def test_the_command_fails_only_with_fail_within_and_prints_the_pairs_anyway(
    split: ImageIndex, run: Run, tmp_path: Path
) -> None:
    def leak(*arguments: str) -> tuple[int, str, str]:
        done = run("leak", *arguments, "--index", split.path)
        return done.returncode, done.stdout, done.stderr

    code, shown, _ = leak("train", "test", "--distance", "0.1")
    assert code == 0
    assert shown.splitlines()[0].split() == ["rank", "how", "distance", "a", "b"]
    code, failed, said = leak("train", "test", "--distance", "0.1", "--fail-within", "0")
    assert (code, failed) == (4, shown)
    # The copy in other pixels has the very same vector.
    assert said == "2 pairs of images are at most 0 apart: the sets leak\n"
    code, listed, _ = leak("train", "test", "--fail-within", "0.1", "--json")
    assert code == 4
    assert next((one["a"], one["b"]) for one in json.loads(listed)) == ("train/1.png", "test/copy.png")
    assert leak("train/0.png", "test", "--fail-within", "0.1")[0] == 0
    assert leak("train", "test", "--distance", "0.1", "--format", "paths")[1] == "train/1.png\ntrain/2.png\n"
    assert leak("train", "test", "--distance", "0.1", "--fail-within", "0.2")[0] == 2
    code, shown, said = leak("train", "absent", "--distance", "0.1")
    assert (code, shown) == (1, "")
    assert "no image at" in said
