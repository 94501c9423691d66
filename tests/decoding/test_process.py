"""Hostile files given to the command line: the reasons it prints, and that no process outlives the run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hostile
import pytest
from hostile import deed

ROOT = Path(__file__).parent.parent.parent

# The command, with limits that a test has the patience for.
COMMAND = """
import sys
from imgindex.decoding import pool
from imgindex.decoding.process import DecodeLimits
pool.DecodeLimits = lambda: DecodeLimits(seconds={seconds}, memory=1 << 30)
from imgindex.cli.app import main
main()
"""
ADD = """
import sys
from grid_mean import GRID_RECIPE, GridMean
from imgindex import Engine, ImageIndex
from imgindex.decoding import pool
from imgindex.decoding.process import DecodeLimits
pool.DecodeLimits = lambda: DecodeLimits(seconds={seconds}, memory=1 << 30)
with ImageIndex.create("it.imgindex", encoder=GridMean(), engine=Engine(workers=3)) as index:
    report = index.add(sys.argv[1:])
print(report.added, report.failed)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a Python program in a folder, and a process group, of its own, with the hostile decoder on its path."""
    (tmp_path / "plugin").mkdir()
    shutil.copy(hostile.__file__, tmp_path / "plugin/pillow_jxl.py")
    started = []

    def start(program: str, *arguments: str, seconds: float, cwd: Path = tmp_path) -> subprocess.Popen[str]:
        (tmp_path / "programs").mkdir(exist_ok=True)
        (tmp_path / "programs/program.py").write_text(program.format(seconds=seconds))
        path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", tmp_path / "plugin")))
        process = subprocess.Popen(
            [sys.executable, str(tmp_path / "programs/program.py"), *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": path, "TORCH_HOME": str(tmp_path / "torch")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def decoders_of(process: subprocess.Popen[str]) -> set[int]:
    """The ids of the processes that this one has started."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == process.pid and state not in "ZX":
            found.add(int(path.parent.name))
    return found


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something to come true, and fail when it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def at_work(folder: Path) -> list[int]:
    """The ids of the processes that the hostile decoder is, or was, at work in."""
    return [int(path.name.split()[1]) for path in folder.glob("plugin/begun *")]


@pytest.fixture
def hanging(folder: Path) -> Path:
    """Twelve pictures, among them two files that hang a decoder."""
    for name in ("a/5.jxl", "b/7.jxl"):
        (folder / name).write_bytes(deed("hang", name.encode()))
    return folder


def test_the_command_line_survives_hostile_files_and_gives_the_reasons(start: Start, folder: Path) -> None:
    for number, name in enumerate(("hang", "eat", "crash")):
        (folder / "ab"[number % 2] / f"{name}.jxl").write_bytes(deed(name))
    process = start(COMMAND, "add", "pictures", "--recipe", "vgg16-pool5", "--size", "32", "--json", seconds=2)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 3, errors
    report = json.loads(out)
    assert (report["added"], report["failed"]) == (12, 3)
    assert "hang.jxl: decoding took more than 2 s" in errors
    assert "eat.jxl: not enough memory to decode it (limit 1 GiB)" in errors
    assert "crash.jxl: the decoder crashed (SIGSEGV)" in errors
    process = start(COMMAND, "similar", "pictures/a/hang.jxl", seconds=2)
    out, errors = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    assert errors == "imgindex: error: cannot read pictures/a/hang.jxl: decoding took more than 2 s\n"


def test_files_in_the_folder_that_look_like_modules_are_not_imported(start: Start, folder: Path) -> None:
    for name in ("PIL", "numpy", "json", "imgindex", "pillow_jxl", "sitecustomize"):
        (folder / f"{name}.py").write_text("raise SystemExit('imported from the current folder')")
    arguments = ("add", ".", "--recipe", "vgg16-pool5", "--size", "32", "--json")
    process = start(COMMAND, *arguments, seconds=60, cwd=folder)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert json.loads(out)["added"] == 12


def test_ctrl_c_twice_ends_a_run_that_hangs_and_all_its_processes(start: Start, hanging: Path, tmp_path: Path) -> None:
    process = start(COMMAND, "add", "pictures", "--recipe", "vgg16-pool5", "--size", "32", seconds=600)
    until(lambda: len(at_work(tmp_path)) == 2)
    decoders = decoders_of(process)
    assert decoders >= set(at_work(tmp_path))
    os.killpg(process.pid, signal.SIGINT)
    assert process.stderr is not None
    assert "points of mAP" in process.stderr.readline()
    assert "finishing this batch" in process.stderr.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not any(map(is_running, decoders))
    process = start(COMMAND, "failures", "--json", seconds=600)
    assert json.loads(process.communicate(timeout=60)[0]) == []


def test_kill_9_of_the_parent_leaves_no_process(start: Start, hanging: Path, tmp_path: Path) -> None:
    process = start(ADD, "pictures", seconds=15)
    until(lambda: len(at_work(tmp_path)) == 2)
    decoders = decoders_of(process)
    assert decoders >= set(at_work(tmp_path))
    process.kill()
    process.wait()
    until(lambda: not any(map(is_running, decoders)))


def test_a_run_that_is_stopped_for_longer_than_a_picture_may_take_loses_none(start: Start, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(12):
        (tmp_path / "many" / f"{number}.jxl").write_bytes(deed("nap", b"%d" % number))
    # Six times as long as a picture takes, which may be twice as long on a busy machine.
    process = start(ADD, "many", seconds=3)
    until(lambda: len(at_work(tmp_path)) == 3)
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(3.5)  # longer than a picture may take
    os.killpg(process.pid, signal.SIGCONT)
    out, errors = process.communicate(timeout=60)
    assert (out, errors) == ("12 0\n", "")
