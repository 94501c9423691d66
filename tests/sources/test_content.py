"""Reading a file whole: the bytes, their hash, and every way in which a file refuses."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from imgindex.errors import UnreadableImage
from imgindex.sources.base import Content
from imgindex.sources.content import read_content


def reason(path: Path | str, **options: int) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_content(str(path), **options)
    assert caught.value.stage == "read"
    return caught.value.reason


def test_content_is_the_bytes_with_their_hash_and_the_files_numbers(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"abc" * 1000)
    os.utime(file, ns=(5, 7_000_000_001))
    expected = hashlib.sha256(b"abc" * 1000).digest()
    info = os.stat(file)
    assert read_content(str(file)) == Content(
        b"abc" * 1000, expected, 3000, 7_000_000_001, info.st_ctime_ns, info.st_ino
    )


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").symlink_to("a")
    assert read_content(str(tmp_path / "b")).data == b"x"


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert reason(tmp_path / "a") == "file is empty"


def test_a_file_over_the_limit_is_refused_with_both_sizes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1001))
    assert reason(tmp_path / "a", max_bytes=1000) == "the file has 0.001001 MB, more than the limit of 0.001 MB"
    assert read_content(str(tmp_path / "a"), max_bytes=1001).size == 1001


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    assert reason(tmp_path / "a") == "not a regular file"


def test_folders_devices_and_missing_files_are_refused(tmp_path: Path) -> None:
    assert reason(tmp_path) == "not a regular file"
    assert reason("/dev/zero") == "not a regular file"
    assert reason(tmp_path / "gone") == "No such file or directory"
    assert reason("/nul\0").startswith("not a path: ")


def test_an_error_of_the_system_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    assert reason(tmp_path / "a") == "Permission denied"


@pytest.mark.parametrize("change", [b"longer than before", b"short", b"other bytes"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: bytes
) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"some bytes!")
    os.utime(file, ns=(0, 0))
    fstat = os.fstat

    def meddle(descriptor: int) -> os.stat_result:
        info = fstat(descriptor)
        monkeypatch.setattr(os, "fstat", fstat)
        file.write_bytes(change)
        return info

    monkeypatch.setattr(os, "fstat", meddle)
    assert reason(file) == "file changed while it was read"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        read_content(str(tmp_path / "a"))
        reason(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
