"""`add --ray` on two real nodes: what is lost with a node is done again, and what was committed stays."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ray_nodes import ADDRESS, RayNodes, Running, answer, children
from small_recipe import SMALL

from imgindex import ImageIndex

PICTURES = 300


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 300 pictures, no two of them alike, which are decoded in some hundredths of a second each.

    So nodes have work for seconds, and can be killed in the middle of it.
    """
    folder = tmp_path_factory.mktemp("noise")
    for number in range(PICTURES):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((1800, 1200), Image.Resampling.NEAREST)
        picture.save(folder / f"{number}.png", compress_level=1)
    return folder


def committed(index: Path) -> int:
    """How many images a reader of the index sees now."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{index}/catalogue.db?mode=ro", uri=True)) as opened:
        return int(opened.execute("select count(*) from images").fetchone()[0])
    return 0


def wait_for(index: Path, count: int, running: Running) -> int:
    """Wait until so many images are committed; return how many are."""
    end = time.monotonic() + 120
    while (now := committed(index)) < count:
        assert running.poll() is None, running.complete()
        assert time.monotonic() < end
        time.sleep(0.01)
    return now


def check(index: Path) -> None:
    """Assert that each picture is there once, and every vector is that of its picture."""
    with ImageIndex.open(index) as opened:
        assert opened.verify(full=True).ok
        assert sorted(int(Path(path).stem) for path in opened.paths()) == list(range(PICTURES))
        assert len(set(opened.ids().tolist())) == PICTURES
        assert len(np.unique(opened.vectors(), axis=0)) == PICTURES


def test_when_a_node_is_killed_the_other_one_does_its_work(nodes: RayNodes, noise: Path, tmp_path: Path) -> None:
    index = tmp_path / "it.imgindex"
    running = nodes.start_command(
        "add", noise, *SMALL, "--index", index, "--ray", ADDRESS, "--json", commits_at_once=True
    )
    began = wait_for(index, 60, running)
    nodes.kill(1)
    try:
        done = running.complete()
    finally:
        nodes.start(1)
    assert began < PICTURES
    assert answer(done)["added"] == PICTURES
    assert "a worker on node 127.0.0.2 was lost" in done.stderr
    check(index)


def kill(command: Running, index: Path) -> None:
    command.kill()
    command.complete()


def interrupt(command: Running, index: Path) -> None:
    """As Ctrl-C does: what the nodes have begun is waited for, and reported."""
    command.send_signal(signal.SIGINT)
    done = command.complete()
    assert answer(done, 130)["added"] == committed(index)
    assert "finished batches are kept, and the same command continues" in done.stderr


def take_ray_away(command: Running, index: Path) -> None:
    (connected,) = (pid for pid in children(command.pid) if b"ray_process" in _command(pid))
    os.kill(connected, signal.SIGKILL)
    done = command.complete()
    assert (done.returncode, done.stdout) == (1, "")
    assert "imgindex: error: the Ray cluster 127.0.0.1:6399 was lost; look at it with `ray status`" in done.stderr


@pytest.mark.parametrize("end", [kill, interrupt, take_ray_away])
def test_what_a_run_that_ended_early_committed_is_not_done_again(
    nodes: RayNodes, noise: Path, tmp_path: Path, end: Callable[[Running, Path], None]
) -> None:
    index = tmp_path / "it.imgindex"
    add = ("add", noise, "--index", index, "--ray", ADDRESS, "--json")
    command = nodes.start_command(*add, *SMALL, commits_at_once=True)
    wait_for(index, 60, command)
    end(command, index)
    kept = committed(index)
    assert 60 <= kept < PICTURES
    report = answer(nodes.run(*add))
    assert (report["added"], report["unchanged"], report["found"]) == (PICTURES - kept, kept, PICTURES)
    check(index)
    assert answer(nodes.run(*add))["unchanged"] == PICTURES
    assert nodes.processes() == []


def test_files_that_only_this_machine_has_end_the_run_and_are_no_failures(
    nodes: RayNodes, noise: Path, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    # The command alone sees the pictures in that folder.
    by = ("unshare", "-m", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', noise, tmp_path / "here")
    index = tmp_path / "it.imgindex"
    done = nodes.run("add", tmp_path / "here", *SMALL, "--index", index, "--ray", ADDRESS, by=by)
    assert done.returncode == 1
    assert "which this machine can: No such file or directory" in done.stderr
    assert "let every node have the same files at the same path" in done.stderr
    with ImageIndex.open(tmp_path / "it.imgindex") as index:
        assert list(index.failures()) == []


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
