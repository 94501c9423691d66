"""Every moment of a run at which its process can die or the power can fail, SQLite's own writes included.

A real run is recorded by strace, and its writes are replayed onto a model of the disk: after each one, and in the
middle of each one, the index is laid out as a crash would leave it, opened, checked and brought up to date. Then the
system calls of real runs are made to fail, or to kill them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import campaign
import numpy as np
from campaign import Figures, main
from decoders_here import work_here
from pictures import draw
from PIL import Image as Picture
from power_check import MEMORY, Ground, State, lay_out, read_journal
from power_disk import POWER, Disk, Image
from power_script import TOLD
from power_trace import Event, Recorder, calls, trace

from imgindex.decoding.pool import DecoderPool

SCRIPT = Path(__file__).with_name("power_script.py")
COLOURS = range(32)  # every picture that the script draws
FAULTS = 3  # runs with a fault in the size "ci"; "full" makes every call fail once
# Faults that once left a damaged index: a new catalogue could not change to its write-ahead log, and nothing said so.
FOUND = ("fdatasync:error=ENOSPC:when=1", "fdatasync:error=EIO:when=4", "pwrite64:error=ENOSPC:when=3")
SEEDS = {"ci": 1, "full": 5}
AGAIN = {"ci": 1, "full": 8}  # crashes after which there is another
MOMENTS = 120  # in the size "ci", of moments × kinds of power failures: a sample beyond that
DEATHS = {"ci": 20, "full": 1}  # one moment of so many
FAILURES = {
    "fsync": ("EIO", "ENOSPC"),
    "fdatasync": ("EIO", "ENOSPC"),
    "pwrite64": ("EIO", "ENOSPC"),
    "write": ("EIO", "ENOSPC", "EDQUOT"),
    "ftruncate": ("EIO", "EFBIG"),
    "openat": ("EMFILE", "EACCES"),
    "rename": ("EROFS", "EIO"),
    "unlink": ("EROFS", "EIO"),
    "mkdir": ("EROFS", "ENOSPC"),
}
KILL = "signal=KILL"


def missing() -> str:
    """Say why runs cannot be recorded here; empty when they can."""
    if shutil.which("strace") is None:
        return "there is no strace"
    with tempfile.TemporaryDirectory() as folder:
        tried = trace(["true"], Path(folder))
    return "" if tried.returncode == 0 else f"strace may not trace: {tried.stderr.strip()}"


@dataclass(frozen=True, slots=True)
class Recording:
    """What a run did, what had been noted when it ended, and how it ended.

    image: what it began with; noted: how many of the states are from before it.
    """

    folder: Path
    events: list[Event]
    states: list[State]
    code: int
    output: str
    image: Image = field(default_factory=dict)
    noted: int = 0

    @property
    def root(self) -> Path:
        return self.folder / "it.imgindex"

    def disk(self) -> Disk:
        """Return the disk before the run."""
        return Disk(str(self.root), self.image)


def record(folder: Path, *, inject: str = "") -> Recording:
    """Run the script in an empty folder under strace."""
    folder.mkdir()
    return _record(folder, [], {}, inject, [])


def record_again(folder: Path, pictures: Path, image: Image, states: list[State]) -> Recording:
    """Run what brings the index up to date that a crash left, when these states were noted."""
    folder.mkdir()
    shutil.copytree(pictures, folder / "pictures")
    lay_out(folder / "it.imgindex", image)
    return _record(folder, ["again"], image, "", states)


def _record(folder: Path, arguments: list[str], image: Image, inject: str, states: list[State]) -> Recording:
    environment = ["env", f"PYTHONPATH={campaign.TESTS.parent}", "PYTHONDONTWRITEBYTECODE=1"]
    command = [*environment, sys.executable, str(SCRIPT), str(folder), *arguments]
    done = trace(command, folder / "logs", inject=inject)
    root, ledger = folder / "it.imgindex", folder / "ledger"
    recorder = Recorder(str(root), str(ledger), Disk(str(root), image).files())
    events = list(recorder.events(calls(folder / "logs")))
    states = states + read_journal(ledger, *states[-1:])
    output = (done.stdout + done.stderr).strip()
    return Recording(folder, events, states, done.returncode, output, image, len(states) - _marks(events))


def _marks(events: list[Event]) -> int:
    return sum(event.kind == "mark" for event in events)


def vectors_by_hash() -> dict[str, np.ndarray]:
    """Return sha256 → vector of every picture that the script may have drawn, computed without the index."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for colour in COLOURS:
            path = draw(Path(folder) / "it.png", colour)
            with Picture.open(path) as picture:
                pixel = np.array(picture.getpixel((0, 0)), np.float32) / 255
            found[hashlib.sha256(path.read_bytes()).hexdigest()] = np.tile(pixel, 4)
    return found


@dataclass(slots=True)
class Tried:
    """Lays out images on one ground and counts; the same image under the same promises is tried once."""

    ground: Ground
    points: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    after: str = ""  # an earlier crash
    _seen: set[bytes] = field(default_factory=set)

    def new(self, image: Image, noted: int) -> bool:
        key = hashlib.sha256(repr((noted, sorted(image.items()))).encode()).digest()
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def image(self, kind: str, where: str, image: Image, noted: int) -> None:
        self.ground.lay_out(image)
        self.points["again: " + kind.split(":", maxsplit=1)[0] if self.after else kind] += 1
        self.lost += [f"{kind}, {self.after}{where}: {line}" for line in self.ground.check(noted)]


def run(size: str, *, seed: int = 0) -> Figures:
    """Record a run of the store, and try every moment of it; pictures are decoded in this process."""
    vectors = vectors_by_hash()
    with (
        mock.patch.object(DecoderPool, "work", work_here),
        tempfile.TemporaryDirectory(prefix="imgindex-power-", dir=MEMORY) as place,
    ):
        folder = Path(place).resolve()
        recording = record(folder / "whole")
        if recording.code:
            raise RuntimeError(f"the run that was to be recorded failed: {recording.output}")
        with contextlib.closing(Ground(recording.folder / "pictures", recording.states, vectors)) as ground:
            tried = Tried(ground)
            crashes(recording, tried, size, seed)
            failing = failing_calls(recording, tried, folder, size, seed)
        crashes_again(recording, tried, folder, size, seed)
    kinds = Counter(event.kind for event in recording.events)
    segments = {event.path for event in recording.events if event.path.endswith(".vec")}
    figures = {"recorded": dict(sorted(kinds.items())), "noted": len(recording.states), "segments": len(segments)}
    return figures | {"points": dict(sorted(tried.points.items())), "faults": failing, "lost": tried.lost}


def crashes(recording: Recording, tried: Tried, size: str, seed: int) -> None:
    tried.lost += faithful(recording)
    deaths(recording, tried, size, seed)
    power_failures(recording, tried, size, seed)


def crashes_again(recording: Recording, tried: Tried, folder: Path, size: str, seed: int) -> None:
    """The power fails, and the `add` that brings the index up to date is interrupted in the same ways."""
    chance = random.Random(seed)
    unsynced = [number for number, event in enumerate(recording.events) if event.kind in ("sync", "syncdir")]
    chosen = set(chance.sample(unsynced, min(AGAIN[size], len(unsynced))))
    for number, (disk, noted, _, where) in enumerate(moments(recording)):
        if number not in chosen:
            continue
        image = disk.after_power_failure("random", "prefix", chance)
        second = record_again(
            folder / f"again {number}", recording.folder / "pictures", image, recording.states[:noted]
        )
        if second.code:
            tried.lost.append(f"after {where}: {second.output[-500:]}")
            continue
        with contextlib.closing(Ground(second.folder / "pictures", second.states, tried.ground.vectors)) as ground:
            crashes(second, Tried(ground, tried.points, tried.lost, after=f"after {where}, "), size, seed)


def faithful(recording: Recording) -> list[str]:
    """Return where the files at the end of a replay differ from those that the run left."""
    disk = recording.disk()
    for event in recording.events:
        disk.apply(event)
    there, replayed = left(recording.root), disk.after_death()
    names = [name for name in there.keys() | replayed.keys() if there.get(name, 0) != replayed.get(name, 0)]
    return [f"the replay is not what happened to {name}" for name in names if not name.endswith("-shm")]


def left(root: Path) -> Image:
    """Return the files below a folder, and the folder itself."""
    paths = [root, *sorted(root.rglob("*"))] if root.exists() else []
    return {os.path.relpath(path, root): None if path.is_dir() else path.read_bytes() for path in paths}


def moments(recording: Recording) -> Iterator[tuple[Disk, int, Event, str]]:
    """Yield the disk before each event, how many states were noted by then, the event, and a name for the place."""
    disk, noted = recording.disk(), recording.noted
    for number, event in enumerate(recording.events):
        yield disk, noted, event, f"event {number} ({event.kind} {os.path.basename(event.path)})"
        noted += event.kind == "mark"
        disk.apply(event)


def deaths(recording: Recording, tried: Tried, size: str, seed: int) -> None:
    """The process dies before each event, and in the middle of each write; in the size "ci" at some of them."""
    chance = random.Random(seed)
    for disk, noted, event, where in moments(recording):
        if chance.randrange(DEATHS[size]):
            continue
        image = disk.after_death()
        if tried.new(image, noted):
            tried.image("death", where, image, noted)
        if event.kind == "write" and len(event.data) > 1:
            image = disk.after_death(event)
            if tried.new(image, noted):
                tried.image("death in a write", where, image, noted)


def power_failures(recording: Recording, tried: Tried, size: str, seed: int) -> None:
    """The power fails before each event, in every way that there is; in the size "full" with several dice."""
    sample = random.Random(seed)
    share = 1.0 if size == "full" else MOMENTS / (len(recording.events) * len(POWER))
    for one in range(seed, seed + SEEDS[size]):
        for disk, noted, _, where in moments(recording):
            for data, names in POWER:
                if sample.random() > share:
                    continue
                chance = random.Random(f"{one} {where} {data} {names}")
                image = disk.after_power_failure(data, names, chance)
                if tried.new(image, noted):
                    tried.image(f"power: data {data}, names {names}", f"{where}, seed {one}", image, noted)


def failing_calls(recording: Recording, tried: Tried, folder: Path, size: str, seed: int) -> dict[str, int]:
    """System calls of real runs fail or kill; the run has to report it, and what it noted before has to be there."""
    chance = random.Random(seed)
    by_name: dict[str, list[Event]] = {}
    for event in recording.events:
        by_name.setdefault(event.call, []).append(event)
    of_interest = [by_name[name] for name in FAILURES if name in by_name]
    if size == "ci":  # as many of each call as of any other: there are ten times as many writes as syncs
        chosen = [chance.choice(of_interest[number % len(of_interest)]) for number in range(FAULTS)]
    else:
        chosen = [event for events in of_interest for event in events]
    injects = list(FOUND)
    for event in chosen:
        kind = chance.choice([*(f"error={name}" for name in FAILURES[event.call]), KILL])
        injects.append(f"{event.call}:{kind}:when={event.nth}")
    outcomes: Counter[str] = Counter()
    for inject in injects:
        outcomes[one_fault(tried, folder / "faulty", inject)] += 1
        shutil.rmtree(folder / "faulty")
    return dict(sorted(outcomes.items()))


def one_fault(tried: Tried, folder: Path, inject: str) -> str:
    """Run with one fault; return what became of the run."""
    try:
        recording = record(folder, inject=inject)
    except subprocess.TimeoutExpired:
        tried.lost.append(f"{inject}: the run hangs")
        return "hung"
    states, noted = tried.ground.states, len(recording.states)
    if recording.states != states[:noted]:
        tried.lost.append(f"{inject}: it reports other images than an undisturbed run")
    outcome = {0: "survived", TOLD: "told", -9: "killed", 137: "killed"}.get(recording.code, "crashed")
    if outcome == "crashed" or (outcome == "survived" and noted < len(states)):
        tried.lost.append(f"{inject}: the run ended with {recording.code}: {recording.output[-500:]}")
    tried.image("fault", inject, left(recording.root), noted)
    # A sync that failed kept nothing: what was noted nevertheless must not rest upon it.
    disk = recording.disk()
    for event in recording.events:
        disk.apply(event)
    for data, names in (("none", "all"), ("none", "none")) if outcome != "killed" else ():
        image = disk.after_power_failure(data, names, random.Random(inject))
        tried.image("fault, then power failure", inject, image, noted)
    return outcome


if __name__ == "__main__":
    main("power", run)
