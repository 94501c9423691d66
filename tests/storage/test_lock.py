"""One writer at a time, over processes; readers never wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imgindex import ImageIndex
from imgindex.errors import IndexLocked
from imgindex.storage.lock import WriteLock

HOLD = """
import sys
from imgindex.storage.lock import WriteLock

with WriteLock(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own that holds the lock until its stdin is closed."""
    command = [sys.executable, "-c", HOLD, os.fspath(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"locked\n"
            yield process
        finally:
            process.kill()


def refused(path: Path) -> str:
    with pytest.raises(IndexLocked) as caught:
        WriteLock(os.fspath(path)).__enter__()
    return str(caught.value)


def test_a_second_writer_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    with holder(tmp_path / "lock") as process:
        assert f"process {process.pid} on {os.uname().nodename}" in refused(tmp_path / "lock")


def test_the_lock_is_free_when_its_holder_ends(tmp_path: Path) -> None:
    with holder(tmp_path / "lock") as process:
        process.communicate()
        with WriteLock(str(tmp_path / "lock")):
            pass


def test_the_lock_is_free_when_its_holder_is_killed(tmp_path: Path) -> None:
    with holder(tmp_path / "lock") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with WriteLock(str(tmp_path / "lock")):
            pass


def test_who_was_refused_may_try_again(tmp_path: Path) -> None:
    with holder(tmp_path / "lock") as process:
        assert str(process.pid) in refused(tmp_path / "lock")
        process.communicate()
        with WriteLock(str(tmp_path / "lock")):
            assert str(os.getpid()) in refused(tmp_path / "lock")


def test_a_lock_whose_holder_did_not_leave_its_name_is_still_a_lock(tmp_path: Path) -> None:
    with holder(tmp_path / "lock"):
        (tmp_path / "lock").write_bytes(b'{"pid": 1')
        assert refused(tmp_path / "lock") == "another process is writing to this index"


def test_while_someone_writes_adding_is_refused_and_reading_goes_on(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    paths = index.paths()
    with holder(Path(index.path) / "lock"):
        with pytest.raises(IndexLocked):
            index.add([folder])
        with pytest.raises(IndexLocked):
            index.remove([folder])
        with ImageIndex.open(index.path) as reader:
            assert reader.paths() == paths
            assert len(reader.similar(paths[0], n=3)) == 3
            assert reader.verify(full=True).ok
