"""One writer at a time, over processes; readers never wait."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from forking import Run

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


def test_a_second_writer_is_refused_and_the_first_is_named(tmp_path: Path) -> None:
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


def test_a_refused_writer_can_try_again(tmp_path: Path) -> None:
    with holder(tmp_path / "lock") as process:
        assert str(process.pid) in refused(tmp_path / "lock")
        process.communicate()
        with WriteLock(str(tmp_path / "lock")):
            assert str(os.getpid()) in refused(tmp_path / "lock")


def test_a_lock_whose_holder_did_not_leave_its_name_is_still_a_lock(tmp_path: Path) -> None:
    with holder(tmp_path / "lock"):
        (tmp_path / "lock").write_bytes(b'{"pid": 1')
        assert refused(tmp_path / "lock") == "another process is writing to this index"


def test_while_a_process_writes_adding_is_refused_and_reading_goes_on(index: ImageIndex, folder: Path) -> None:
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


@pytest.mark.parametrize("note", [b"", b"\0\0\0", b'{"pid": 1, "host": "gone"}', b"x" * 10_000])
def test_an_outdated_or_torn_line_in_the_lock_file_does_no_harm(tmp_path: Path, note: bytes) -> None:
    (tmp_path / "lock").write_bytes(note)
    with WriteLock(str(tmp_path / "lock")):
        assert refused(tmp_path / "lock").endswith(f"(process {os.getpid()} on {os.uname().nodename})")


def test_the_content_of_the_lock_file_is_not_printed_raw(index: ImageIndex, folder: Path, run: Run) -> None:
    lock = Path(index.path) / "lock"
    with holder(lock):
        lock.write_text(json.dumps({"pid": 7, "host": "a\n\x1b[2J\x07b\u202e" + "c" * 200}))
        done = run("add", folder, "--index", index.path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert all(char.isprintable() for char in done.stderr.rstrip("\n"))
    assert f"(process 7 on a[2Jb{'c' * 55})" in done.stderr


def started(*arguments: str | Path) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "imgindex", *map(os.fspath, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_process_that_waits_reports_it_once_and_then_does_its_work(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    (folder / "a/0.png").rename(folder / "a/renamed.png")
    with holder(Path(index.path) / "lock") as process:
        waiting = started("add", folder, "--index", index.path, "--wait", "--json")
        assert waiting.stderr is not None
        line = waiting.stderr.readline()
        assert f"waiting for another process to finish writing (process {process.pid} on" in line
        assert waiting.poll() is None
        process.communicate()
        out, rest = waiting.communicate(timeout=100)
    assert (waiting.returncode, json.loads(out)["renamed"]) == (0, 1)
    assert "waiting" not in rest


def test_ctrl_c_ends_the_waiting_and_changes_nothing(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    (folder / "a/0.png").unlink()
    before = {path: path.read_bytes() for path in Path(index.path).rglob("*.*")}
    with holder(Path(index.path) / "lock"):
        for command in (["add", folder], ["remove", folder], ["compact"], ["repair"]):
            waiting = started(*command, "--index", index.path, "--wait")
            assert waiting.stderr is not None
            assert "waiting for another process" in waiting.stderr.readline()
            waiting.send_signal(signal.SIGINT)
            out, rest = waiting.communicate(timeout=100)
            assert (waiting.returncode, out) == (130, ""), command
            assert "Traceback" not in rest
    index.close()
    after = {path: path.read_bytes() for path in before if path.suffix != ".db-shm"}
    assert after == {path: data for path, data in before.items() if path.suffix != ".db-shm"}


NOBODY = """
import importlib, os, pkgutil, secrets
import imgindex
from imgindex import ImageIndex

for module in pkgutil.walk_packages(imgindex.__path__, "imgindex."):  # another user may not be able to read them
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
os.setgid(65534), os.setuid(65534)
with ImageIndex.open("it.imgindex") as index:
    print(len(index.paths()), index.verify(full=True).ok)
    for write in (lambda: index.add(["."]), lambda: index.remove(["."]), index.compact):
        try:
            write()
        except PermissionError as error:
            print(os.path.basename(error.filename))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_who_may_not_write_to_the_lock_file_can_still_read(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    index.close()
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        shutil.copytree(index.path, Path(place) / "it.imgindex")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, "-c", NOBODY], cwd=place, env=environment, capture_output=True, text=True, check=False
        )
    assert (done.stdout.split(), done.stderr) == (["12", "True", "lock", "lock", "lock"], "")


def test_the_lock_is_released_though_a_child_still_has_its_descriptor(tmp_path: Path) -> None:
    """A program that is started from another thread has it, for a moment, until it has become that program."""
    with WriteLock(str(tmp_path / "lock")) as lock:
        held = os.dup(lock._descriptor)
    try:
        with WriteLock(str(tmp_path / "lock")):
            pass
    finally:
        os.close(held)
