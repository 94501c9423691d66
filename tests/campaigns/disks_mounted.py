"""Disks that fill or become read-only, in a namespace of their own: python disks_mounted.py FOLDER SIZE SEED."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import campaign  # noqa: F401  puts the tests on the path
from disks_index import Bench, Commands, commands, failed_badly
from disks_reading import look_only

PAGE = 4096
ROOM = 64 << 20
FULL = ("No space left on device", "has room")  # the latter before Python 3.11, of the shared memory of the log
NO_FILE = (*FULL, "unable to open database file")
WRITERS = ("add", "remove", "export", "cluster", "compact", "repair")
# In "ci": so many points, below so many pages.
SAMPLE = {"add": 2, "remove": 1, "export": 1, "cluster": 1, "compact": 1, "repair": 1}
UP_TO = {"add": 12, "remove": 10, "export": 2, "cluster": 1, "compact": 30, "repair": 30}
MOST = 400
# Pages left to the first `add` of all: its catalogue is made, moved, and written to.
NEW = {"ci": (14,), "full": (0, 1, 2, 3, 5, 8, 12, 14, 16, 20, 24, 28, 30, 32, 34, 36, 40, 44, 48, 52, 60)}


def mount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", os.fspath(place)], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", os.fspath(place)], check=True)


def used_pages(place: Path) -> int:
    status = os.statvfs(place)
    return status.f_blocks - status.f_bfree


def used_inodes(place: Path) -> int:
    status = os.statvfs(place)
    return status.f_files - status.f_ffree


def full_disks(bench: Bench, size: str, chance: random.Random) -> None:
    """Each command that writes, with ever more pages left until it does its work; in "ci" at a few of these points."""

    def widen() -> None:
        remount(bench.place, f"size={ROOM}")

    for name in [name for name in WRITERS if name in commands()]:
        points = range(MOST)
        with_fit = 0
        for left in sorted(chance.sample(range(UP_TO[name]), SAMPLE[name])) if size == "ci" else points:

            def narrow(left: int = left) -> None:
                remount(bench.place, f"size={(used_pages(bench.place) + left) * PAGE}")

            with_fit += bench.trial("full disk", name, narrow, widen, reasons=FULL) == 0
            if with_fit == 2:
                break


def no_more_files(bench: Bench, size: str) -> None:
    """A disk that has space, but takes only so many more files."""
    for left in range(4) if size == "full" else (1,):

        def narrow(left: int = left) -> None:
            for log in ("-wal", "-shm"):  # empty ones: to be made again
                (bench.index / f"catalogue.db{log}").unlink(missing_ok=True)
            remount(bench.place, f"nr_inodes={used_inodes(bench.place) + left}")

        bench.trial("no more files", "add", narrow, lambda: remount(bench.place, "nr_inodes=100000"), reasons=NO_FILE)


def new_index(bench: Bench, size: str) -> None:
    """The first `add` of all on a disk with hardly any room, with the real network."""
    add = ["add", bench.pictures, "--index", bench.index, "--recipe", "vgg16-pool5", "--size", "32", "--quiet"]
    for pages in NEW[size]:
        bench.lay_out()
        subprocess.run(["rm", "-r", os.fspath(bench.index)], check=True)
        remount(bench.place, f"size={max(1, used_pages(bench.place) + pages) * PAGE}")
        done = bench.imgindex(*add, real=True)
        bench.tried[f"new index on a full disk: {'failed' if done.returncode else 'fitted'}"] += 1
        wrong = list(failed_badly(done, *FULL)) if done.returncode else []
        remount(bench.place, f"size={ROOM}")
        again = bench.imgindex(*add, real=True)
        if again.returncode:
            wrong.append(f"afterwards: {again.stderr.strip()}")
        elif len(bench.read()) != len(list(bench.pictures.iterdir())):
            wrong.append("afterwards: images are missing")
        bench.lost += [f"new index, {pages} pages: {line}" for line in wrong]


def read_only(bench: Bench, size: str) -> None:
    """A disk that is mounted read-only: readers get their answers, and writers a message."""
    for log in ("a log",) if size == "ci" else ("no log", "a log"):
        bench.lay_out()
        if log == "a log":
            leave_log(bench)
        remount(bench.place, "ro")
        bench.lost += [f"read-only disk with {log}: {line}" for line in look_only(bench, "read-only disk", log=log)]
        remount(bench.place, "rw")


def leave_log(bench: Bench) -> None:
    """Let a process take an image out and die: its commit is in SQLite's log alone."""
    code = """
import os, sys
from imgindex.storage.store import Store
with Store(sys.argv[1]).writing() as writer:
    writer.remove([sys.argv[2]])
    os._exit(9)
"""
    subprocess.run([sys.executable, "-c", code, bench.index, bench.pictures / "1.png"], check=False)
    assert (bench.index / "catalogue.db-wal").stat().st_size, "the log is empty"
    (bench.index / "catalogue.db-shm").unlink()  # as after a power failure, or in a copy


if __name__ == "__main__":
    folder, size, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    place = folder / "disk"
    place.mkdir()
    mount(place, f"size={ROOM}")
    imgindex = Commands()
    bench = Bench(folder, place, imgindex)
    bench.prepare()
    parts: list[Callable[[], None]] = [
        lambda: full_disks(bench, size, random.Random(seed)),
        lambda: no_more_files(bench, size),
        lambda: new_index(bench, size),
        lambda: read_only(bench, size),
    ]
    for part in parts:
        part()
    imgindex.close()
    print(json.dumps({"tried": bench.tried, "lost": bench.lost}))
