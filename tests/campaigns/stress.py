"""Four processes at one index: two change pictures, add, remove, compact and repair, and two read all the time.

A reader never gets an error or a mixture of two states. A writer at most waits, or is refused with the name of the
holder of the lock. At the end the index is sound, and one more `add` makes it equal to the folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import campaign
from campaign import Figures, main
from grid_mean import GridMean
from stress_worker import prepare, vectors_of

from imgindex import ImageIndex

SECONDS = {"ci": 1, "full": 60}
ROLES = ("writer", "writer", "reader", "reader")
WORKER = Path(__file__).with_name("stress_worker.py")
LONG = 120


def start(role: str, folder: Path, seconds: float, seed: int) -> subprocess.Popen[str]:
    """Start one worker."""
    command = [sys.executable, os.fspath(WORKER), role, os.fspath(folder), str(seconds), str(seed)]
    # One thread each for FAISS: there are four of them.
    environment = os.environ | {"PYTHONPATH": os.fspath(campaign.TESTS.parent), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def outcome(worker: subprocess.Popen[str], seconds: float) -> tuple[Counter[str], list[str]]:
    """Return what a worker counted and met."""
    try:
        out, err = worker.communicate(timeout=seconds + LONG)
    except subprocess.TimeoutExpired:
        worker.kill()
        return Counter(), [f"a worker hangs: {worker.communicate()[1][-500:]}"]
    if worker.returncode != 0:
        return Counter(), [f"a worker ended with {worker.returncode}: {err[-500:]}"]
    result = json.loads(out)
    return Counter(result["counts"]), result["met"] + ([f"a worker printed {err[:500]!r}"] if err else [])


def check(folder: Path) -> list[str]:
    """Return what is wrong with the index when all workers have ended."""
    lost = []
    with ImageIndex.open(folder / "it.imgindex", encoder=GridMean()) as index:
        if not index.verify(full=True).ok:
            lost.append(f"verify finds {index.verify(full=True).problems}")
        index.add([folder / "pictures"])
        there = {os.fspath(path) for path in (folder / "pictures").rglob("*.png")}
        present = [os.path.abspath(path) for path in index.paths()]
        if sorted(present) != sorted(there):
            lost.append(f"the index is not the folder: {set(present) ^ there}")
        if (index.vectors() != vectors_of(present)).any():
            lost.append("an image has another's vector at last")
        if list(index.failures()):
            lost.append(f"failures are left: {list(index.failures())[:3]}")
        index.compact()
        if not index.verify(full=True).ok or sorted(map(os.path.abspath, index.paths())) != sorted(there):
            lost.append("the index is another one after a compaction")
    return lost


def run(size: str, *, seed: int = 0) -> Figures:
    """Let four processes work for some seconds, and look at what is there afterwards."""
    counts: Counter[str] = Counter()
    lost: list[str] = []
    with tempfile.TemporaryDirectory(prefix="imgindex-stress-") as place:
        folder = Path(place)
        prepare(folder)
        workers = [start(role, folder, SECONDS[size], seed + number) for number, role in enumerate(ROLES)]
        for worker in workers:
            counted, met = outcome(worker, SECONDS[size])
            counts += counted
            lost += met
        lost += check(folder)
    return {"processes": len(ROLES), "seconds": SECONDS[size], "done": dict(sorted(counts.items())), "lost": lost}


if __name__ == "__main__":
    main("stress", run)
