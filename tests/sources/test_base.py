"""The numbers of a file by which it is recognised as the one that was read."""

from __future__ import annotations

import os
from pathlib import Path

from imgindex.sources.base import megabytes
from imgindex.sources.registry import hash_file


def test_a_hash_is_that_of_the_file_until_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"12")
    read = hash_file(str(file))
    assert read.is_of(os.stat(file))
    os.utime(file, ns=(1, 1))
    assert not read.is_of(os.stat(file))


def test_bytes_are_written_for_people() -> None:
    assert megabytes(1_500_000) == "1.5 MB"
