"""Derived files: whole or not there, and read only where they are byte for byte what was written."""

from __future__ import annotations

import errno
import hashlib
import os
import random
from pathlib import Path
from typing import BinaryIO

import pytest

from imgindex.errors import IndexDamaged
from imgindex.storage import derived, durable

DATA = random.Random(0).randbytes(600)


def put(path: Path, data: bytes = DATA) -> tuple[str, int]:
    def writer(file: BinaryIO) -> None:
        file.write(data[:100])
        file.write(data[100:])

    return derived.write(str(path), writer)


def read(path: Path, sha256: str, size: int) -> bytes | None:
    with derived.opened(str(path), sha256, size) as file:
        return file and file.read()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """In a folder that is not there: people may delete it at any time."""
    return tmp_path / "search" / "index"


def test_what_is_written_is_read_back(path: Path) -> None:
    sha256, size = put(path)
    assert (sha256, size) == (hashlib.sha256(DATA).hexdigest(), len(DATA))
    assert path.read_bytes() == DATA == read(path, sha256, size)
    assert [file.name for file in path.parent.iterdir()] == ["index"]


def test_a_file_replaces_an_older_one_and_readers_of_that_go_on(path: Path) -> None:
    old = put(path)
    with derived.opened(str(path), *old) as file:
        new = put(path, b"new")
        assert file is not None
        assert file.read() == DATA
    assert read(path, *old) is None
    assert read(path, *new) == b"new"


def test_an_empty_file_is_a_file(path: Path) -> None:
    assert read(path, *put(path, b"")) == b""


def test_everything_is_on_the_disk_before_the_file_has_its_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir()
    calls: list[str] = []

    def noted(module: object, name: str) -> None:
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given: (calls.append(name), real(*given))[1])

    noted(os, "pwrite")
    noted(os, "fsync")
    noted(os, "replace")
    noted(durable, "sync_folder")
    put(path)
    first, last = calls.index("pwrite"), calls.index("replace")
    assert "fsync" in calls[first:last]
    assert "pwrite" not in calls[last:]
    assert "sync_folder" in calls[last:]


@pytest.mark.parametrize("step", ["pwrite", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_other(path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    old = put(path)
    calls = 0

    def full(*_: object) -> int:
        nonlocal calls
        calls += 1
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(OSError, match="No space left"):
            put(path, b"new")
    assert calls == 1
    assert [file.name for file in path.parent.iterdir()] == ["index"]
    assert read(path, *old) == DATA


def test_a_disk_that_writes_a_part_at_a_time_gets_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: real(descriptor, data[:7], offset))
    assert read(path, *put(path)) == DATA


def test_a_writer_that_is_interrupted_leaves_nothing(path: Path) -> None:
    def interrupted(file: BinaryIO) -> None:
        file.write(DATA)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        derived.write(str(path), interrupted)
    assert list(path.parent.iterdir()) == []


def test_no_changed_byte_is_lent(path: Path) -> None:
    written = put(path)
    for offset in range(len(DATA)):
        data = bytearray(DATA)
        data[offset] ^= 1 << offset % 8
        path.write_bytes(data)
        assert read(path, *written) is None, offset
    path.write_bytes(DATA)
    assert read(path, *written) == DATA


@pytest.mark.parametrize("change", ["cut", "longer", "empty", "swapped", "missing", "folder", "pipe", "dangling link"])
def test_a_file_that_is_not_what_was_written_is_not_lent(path: Path, change: str) -> None:
    written = put(path)
    path.unlink()
    others = {"cut": DATA[:-1], "longer": DATA + b"\0", "empty": b"", "swapped": DATA[::-1]}
    if change in others:
        path.write_bytes(others[change])
    elif change == "folder":
        path.mkdir()
    elif change == "pipe":
        os.mkfifo(path)
    elif change == "dangling link":
        path.symlink_to(path.with_name("nowhere"))
    assert read(path, *written) is None


def test_a_file_that_may_not_be_read_is_not_lent(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = put(path)

    def refused(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refused)
    assert read(path, *written) is None


def test_the_bytes_that_were_checked_are_the_bytes_that_are_lent(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file comes into the place of the checked one, just after it was checked."""
    written = put(path)
    real = derived._check

    def then_replaced(*given: object) -> None:
        real(*given)  # type: ignore[arg-type]
        other = path.with_name("other")
        other.write_bytes(b"?" * len(DATA))
        other.replace(path)

    monkeypatch.setattr(derived, "_check", then_replaced)
    assert read(path, *written) == DATA


def test_what_the_reader_raises_comes_through_and_the_file_is_closed(path: Path) -> None:
    written = put(path)
    with pytest.raises(OSError, match="the reader's own"), derived.opened(str(path), *written) as file:
        raise OSError("the reader's own")
    assert file is not None
    assert file.closed


def test_sweeping_keeps_folders_and_the_named_files(path: Path) -> None:
    put(path)
    path.with_name("index.0badf00d.new").write_bytes(b"what a killed writer left")
    path.with_name("folder").mkdir()
    derived.sweep(str(path.parent), ["index"])
    assert sorted(file.name for file in path.parent.iterdir()) == ["folder", "index"]
    derived.sweep(str(path.parent / "nowhere"), [])


def test_a_folder_in_the_place_of_a_file_and_the_reverse_are_named_with_the_way_out(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(IndexDamaged, match="is a folder") as caught:
        derived.write(str(path), lambda file: None)
    assert "move it away" in caught.value.hint
    path.rmdir()
    path.parent.rmdir()
    path.parent.write_text("no folder")
    with pytest.raises(IndexDamaged, match="is not a folder") as caught:
        derived.sweep(str(path.parent), ())
    assert "move it away" in caught.value.hint
