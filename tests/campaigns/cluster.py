"""Kills nodes of a Ray cluster, and the command, at random moments of `add --ray`: nothing is lost or there twice."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path

import campaign  # noqa: F401  by hand, too, the modules of tests are found
import numpy as np
from campaign import Figures, main
from PIL import Image
from ray_nodes import ADDRESS, RayNodes, Running, children, why_not

from imgindex import ImageIndex

ROUNDS = {"ci": 1, "full": 20}
PICTURES = 300
OPTIONS = ("--recipe", "vgg16-pool5", "--size", "32", "--precision", "fp32", "--ray", ADDRESS, "--json")
LONG = 300.0
# What is killed in a round. After the command itself, the nodes have to be free again for the next one.
VICTIMS = ("a node", "the command", "its process at Ray", "a worker", "an interrupt")


def draw_pictures(folder: Path) -> None:
    """Draw pictures, no two of them alike, which take some milliseconds each."""
    folder.mkdir()
    for number in range(PICTURES):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((900, 600)).save(folder / f"{number}.jpg")


def committed(index: Path) -> int:
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{index}/catalogue.db?mode=ro", uri=True)) as opened:
        return int(opened.execute("select count(*) from images").fetchone()[0])
    return 0


class Campaign:
    """One folder of pictures that two nodes embed, again and again."""

    def __init__(self, folder: Path, nodes: RayNodes, seed: int) -> None:
        self.folder, self.nodes, self.chance = folder, nodes, random.Random(seed)
        self.pictures, self.index = folder / "pictures", folder / "it.imgindex"
        draw_pictures(self.pictures)
        self.figures: dict[str, int] = {}
        self.lost: list[str] = []
        self.vectors: dict[str, bytes] = {}
        assert self.start().complete().returncode == 0, "an undisturbed add failed"
        self.vectors = self.look("the undisturbed add")

    def count(self, name: str, number: int = 1) -> None:
        self.figures[name] = self.figures.get(name, 0) + number

    def start(self) -> Running:
        return self.nodes.start_command("add", self.pictures, "--index", self.index, *OPTIONS)

    def round(self, number: int) -> None:
        """Kill something at a random moment of a first run, then let the command end the work."""
        self.index = self.folder / f"{number}.imgindex"
        victim = VICTIMS[number % len(VICTIMS)]
        running = self.start()
        moment, end = self.chance.randrange(PICTURES - 40), time.monotonic() + LONG
        while committed(self.index) < moment and running.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        if moment < 16:
            time.sleep(self.chance.random() * 4)  # before anything is committed
        kept = committed(self.index)
        self.count(f"rounds that kill {victim}" if victim != "an interrupt" else "rounds that interrupt the command")
        self.kill(victim, running)
        done = running.complete()
        if victim in ("a node", "a worker") and done.returncode:
            self.lost.append(f"round {number}: after the death of {victim} the command ended with {done.returncode}")
        if victim == "its process at Ray" and done.returncode not in (0, 1):
            self.lost.append(f"round {number}: without Ray the command ended with {done.returncode}: {done.stderr}")
        now = committed(self.index)
        if now < kept:
            self.lost.append(f"round {number}: {kept} images were committed, {now} are left")
        self.count("images committed before the kill", kept)
        if victim == "a node":
            self.nodes.start(1)
        last = self.start().complete()
        if last.returncode:
            self.lost.append(f"round {number}: the next add ended with {last.returncode}: {last.stderr}")
        self.compare(f"round {number}")

    def kill(self, victim: str, running: Running) -> None:
        if victim == "a node":
            self.nodes.kill(1)
        elif victim == "the command":
            running.kill()
        elif victim == "an interrupt":
            running.send_signal(signal.SIGINT)
        else:
            name = b"ray_process" if victim == "its process at Ray" else b"ray::Host"
            for pid in children(running.pid) if victim == "its process at Ray" else self.nodes.pids(1):
                with suppress(OSError):
                    if name in Path(f"/proc/{pid}/cmdline").read_bytes():
                        os.kill(pid, signal.SIGKILL)

    def look(self, when: str) -> dict[str, bytes]:
        """Return the vectors by path; note what `verify` finds."""
        with ImageIndex.open(self.index) as index:
            report = index.verify(full=True)
            if not report.ok:
                self.lost.append(f"{when}: {report.problems}")
            paths = index.paths()
            if len(set(paths)) < len(paths) or len(set(index.ids().tolist())) < len(paths):
                self.lost.append(f"{when}: an image is there twice")
            return {path: vector.tobytes() for path, vector in zip(paths, index.vectors(), strict=True)}

    def compare(self, when: str) -> None:
        found = self.look(when)
        if found.keys() != self.vectors.keys():
            self.lost.append(f"{when}: {len(found)} of {PICTURES} images")
        elif found != self.vectors:
            different = sum(found[path] != self.vectors[path] for path in found)
            self.lost.append(f"{when}: {different} vectors are not those of an undisturbed run")


def run(size: str, *, seed: int = 0) -> Figures:
    """Kill nodes and commands over a Ray cluster; without Ray there is nothing to kill."""
    reason = why_not()
    if reason is not None:
        return {"over Ray": f"not run: {reason}", "lost": []}
    with tempfile.TemporaryDirectory(prefix="imgindex-cluster-") as folder, closing(RayNodes()) as nodes:
        nodes.start(0, 1)
        kills = Campaign(Path(folder).resolve(), nodes, seed)
        for number in range(ROUNDS[size]):
            kills.round(number)
        left = nodes.processes()
        kills.lost += [f"a process is left: {command}" for command in left]
    return {"over Ray": {"rounds": ROUNDS[size], **dict(sorted(kills.figures.items()))}, "lost": kills.lost}


if __name__ == "__main__":
    main("cluster", run)
