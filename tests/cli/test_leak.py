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

    code, shown, _ = leak("train", "test")
    assert code == 0
    assert shown.splitlines()[0].split() == ["rank", "how", "distance", "a", "b"]
    assert [line.split()[1] for line in shown.splitlines()[2:]] == ["same", "copy", "copy"]
    code, failed, said = leak("train", "test", "--fail-within", "0")
    assert (code, failed) == (4, shown)
    assert said == "3 pairs of the same picture: the sets leak\n"
    code, listed, _ = leak("train", "test", "--fail-within", "0.1", "--json")
    assert code == 4
    assert next((one["a"], one["b"]) for one in json.loads(listed)) == ("train/1.png", "test/copy.png")
    assert leak("train/0.png", "test", "--fail-within", "0")[0] == 0
    assert leak("train/0.png", "test", "--fail-within", "9")[0] == 4
    assert leak("train", "test", "--format", "paths")[1] == "train/1.png\ntrain/2.png\n"
    assert leak("train", "test", "--similar", "--distance", "0.1", "--fail-within", "0.2")[0] == 2
    assert leak("train", "test", "--distance", "0.1")[0] == 2
    code, shown, said = leak("train", "absent")
    assert (code, shown) == (1, "")
    assert "no image at" in said
