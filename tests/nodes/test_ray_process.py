"""The process that is connected to Ray: it ends with the one that made it, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from ray_nodes import ADDRESS, RayNodes, children, is_running

HOLD = """
import sys, time
from imgindex.nodes.cluster import Cluster
with Cluster(sys.argv[1], "node_work:Work", {"word": "it"}, cpus=1) as workers:
    while not workers.ready:
        workers.events(0.2)
    print(workers._process.pid, workers._folder.name, flush=True)
    time.sleep(300)
"""


def start(command: list[str], environment: dict[str, str]) -> tuple[subprocess.Popen[str], int, Path]:
    """Start a process that holds workers; return it, the id of the one connected to Ray, and that one's folder."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    pid, _, folder = process.stdout.readline().strip().partition(" ")
    return process, int(pid), Path(folder)


def wait_for_the_end(processes: list[int]) -> list[int]:
    """Return those of the processes that are still there after half a minute."""
    end = time.monotonic() + 30
    while (left := [pid for pid in processes if is_running(pid)]) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def test_when_its_parent_is_killed_it_gives_the_nodes_back(nodes: RayNodes) -> None:
    command = nodes.inside(sys.executable, "-c", HOLD, ADDRESS)
    for _ in range(2):  # the second one gets the processors of the first
        parent, pid, folder = start(command, nodes.environment())
        with parent:
            parent.kill()
        assert wait_for_the_end([pid]) == []
        assert not folder.exists()
    assert nodes.processes() == []


def test_a_ray_of_this_machine_ends_with_it(nodes: RayNodes) -> None:
    home = nodes.folder / "home"
    home.mkdir(exist_ok=True)
    environment = {**nodes.environment(), "HOME": str(home)}
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        del environment[name]
    parent, pid, folder = start(nodes.inside(sys.executable, "-c", HOLD, "local"), environment)
    started = children(pid)
    assert len(started) > 5
    with parent:
        parent.kill()
    assert wait_for_the_end(started) == []
    # No token that changes how another Ray starts, and no logs where others can read them.
    assert list(home.iterdir()) == []
    assert not folder.exists()
