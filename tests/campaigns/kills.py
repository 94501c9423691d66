"""`kill -9` at random moments of a real `imgindex add`, with the real network: images that were present before stay."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import campaign
import numpy as np
from archived import files_below, pack
from campaign import Figures, main
from object_store import ObjectStore, find_weed, running
from PIL import Image as Picture

from imgindex import ImageIndex
from imgindex.errors import IndexNotFound
from imgindex.storage import segments

KILLS = {"ci": 3, "full": 60}
PICTURES = 64
FILES, ARCHIVE, BUCKET = "pictures", "pictures.tar.gz", "s3://pictures"
OPTIONS = ("--recipe", "vgg16-pool5", "--size", "32", "--batch-size", "4", "--precision", "fp32", "--json")
# The same picture in another batch: sums are rounded in another order.
ROUNDING = 1e-5
LONG = 300
VECTOR = 512 * 4  # bytes


@dataclass(frozen=True, slots=True)
class KnownImage:
    """A present image of an index."""

    id: int
    sha256: str
    vector: np.ndarray


def draw_pictures(folder: Path) -> None:
    """Draw pictures in several folders, no two of them alike."""
    for number in range(PICTURES):
        pixels = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        path = folder / str(number % 3) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(pixels).resize((48, 40), Picture.Resampling.NEAREST).save(path)


def start(folder: Path, source: str, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start `imgindex add` over the pictures, their archive or their bucket, in a session of its own."""
    command = [sys.executable, "-m", "imgindex", "add", source, "--index", "it.imgindex", *OPTIONS]
    environment = os.environ | {"PYTHONPATH": str(campaign.TESTS.parent), **variables}
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **quiet)


def read(folder: Path) -> dict[str, KnownImage]:
    """Return the present images. Raises AssertionError when `verify` finds a problem."""
    with ImageIndex.open(folder / "it.imgindex") as index:
        report = index.verify(full=True)
        assert report.ok, report.problems
        images = zip(index.images(), index.vectors(), strict=True)
        return {
            os.path.relpath(image.path, folder): KnownImage(image.id, image.sha256, vector) for image, vector in images
        }


def is_same(one: KnownImage, other: KnownImage) -> bool:
    return one.sha256 == other.sha256 and bool(np.allclose(one.vector, other.vector, atol=ROUNDING))


def touched(index: Path) -> int:
    """Return a number that changes when a file of the index does."""
    stats = []
    for folder, _, names in os.walk(index):
        for name in names:
            try:
                status = os.stat(os.path.join(folder, name))
            except FileNotFoundError:
                continue  # it was removed meanwhile
            stats.append((name, status.st_size, status.st_mtime_ns))
    return hash(tuple(sorted(stats)))


def wait_for_time(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return


def wait_for_changes(process: subprocess.Popen[bytes], index: Path, most: int) -> int:
    """Return when the index's files were seen to change so many times, or the process has ended: how many times."""
    deadline, before, seen = time.monotonic() + LONG, touched(index), 0
    while seen < most and process.poll() is None and time.monotonic() < deadline:
        wait_for_time(process, 0.0005)
        now = touched(index)
        seen += now != before
        before = now
    return seen


def kill(process: subprocess.Popen[bytes]) -> str:
    """Kill a run; return what became of it. What it started has to end by itself within ten seconds."""
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    with contextlib.suppress(ProcessLookupError):
        # A decoder that is being started is in the group of the run for a moment, until it has a session of its own.
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        return "left processes behind"
    return {-signal.SIGKILL: "killed", 0: "ended before"}.get(process.returncode, f"code {process.returncode}")


def wait_for_vectors(process: subprocess.Popen[bytes], index: Path, most: int) -> None:
    """Return when so many vectors were seen in the segments, committed or not, or the process has ended."""
    deadline = time.monotonic() + LONG
    while process.poll() is None and time.monotonic() < deadline:
        sizes = (path.stat().st_size - segments.HEADER_SIZE for path in index.glob("segments/*.vec"))
        if sum(sizes) // VECTOR >= most:
            return
        wait_for_time(process, 0.0005)


class Campaign:
    """One folder of pictures, or an archive of them, or a bucket of a store, killed upon again and again."""

    def __init__(self, folder: Path, seed: int, source: str = FILES, store: ObjectStore | None = None) -> None:
        self.folder, self.index = folder, folder / "it.imgindex"
        self.chance = random.Random(seed)
        draw_pictures(folder / "pictures")
        self.source, self.variables = source, store.environment if store else {}
        if source == ARCHIVE:
            pack(folder / ARCHIVE, files_below(folder / "pictures"))
        if store is not None:
            store.put_folder(source.removeprefix("s3://"), folder / "pictures")
        if source != FILES:
            shutil.rmtree(folder / "pictures")
        # How long an undisturbed run takes to its first change and to its end, and how often it changes something.
        started = time.monotonic()
        process = start(folder, self.source, self.variables)
        self.changes = wait_for_changes(process, self.index, 1)
        self.first = time.monotonic() - started
        self.changes += wait_for_changes(process, self.index, sys.maxsize)
        assert process.wait(timeout=LONG) == 0, "an undisturbed add failed"
        self.seconds = time.monotonic() - started
        self.undisturbed = read(folder)
        assert len(self.undisturbed) == PICTURES
        self.figures: dict[str, int] = {}
        self.counts_after: set[int] = set()
        self.lost: list[str] = []

    def count(self, name: str) -> None:
        self.figures[name] = self.figures.get(name, 0) + 1

    def run(self, kills: int) -> None:
        before: dict[str, KnownImage] = dict(self.undisturbed)
        for number in range(kills):
            if len(before) == PICTURES or self.chance.random() < 0.2:
                shutil.rmtree(self.index, ignore_errors=True)
                before = {}
                self.count("fresh indexes")
            process = start(self.folder, self.source, self.variables)
            share = 1 - len(before) / PICTURES
            if number % 3 == 2:
                # However slow the machine is, these come at as many different moments of the work.
                wait_for_vectors(process, self.index, self.chance.randint(len(before) + 1, PICTURES))
            elif number % 3:
                # From the first byte of the interpreter to the last commit.
                length = self.first + (self.seconds - self.first) * share
                wait_for_time(process, length * (number + self.chance.random()) / kills)
            else:
                # The first kill leaves work for the next ones.
                most = int(self.changes * share / (1 if number else 2))
                wait_for_changes(process, self.index, self.chance.randint(1, max(1, most)))
                wait_for_time(process, self.chance.choice((0, 0.005)) * self.chance.random())
            outcome = kill(process)
            self.count(outcome)
            if outcome not in ("killed", "ended before"):
                self.lost.append(f"kill {number}: {outcome}")
            before = self.look(f"kill {number}", before)
            self.counts_after.add(len(before))
        assert start(self.folder, self.source, self.variables).wait(timeout=LONG) == 0, (
            "the add after the last kill failed"
        )
        after = self.look("the add after the last kill", before)
        if after.keys() != self.undisturbed.keys():
            self.lost.append(f"the add after the last kill has {len(after)} of {PICTURES} images")

    def look(self, when: str, before: dict[str, KnownImage]) -> dict[str, KnownImage]:
        try:
            after = read(self.folder)
        except IndexNotFound:
            after = {}
        except Exception as error:  # noqa: BLE001  whatever it raises is what this looks for
            self.lost.append(f"{when}: {type(error).__name__}: {error}")
            return before
        self.lost += [f"{when}: {line}" for line in self.compare(before, after)]
        return after

    def compare(self, before: dict[str, KnownImage], after: dict[str, KnownImage]) -> Iterator[str]:
        for name, image in before.items():
            now = after.get(name)
            if now is None:
                yield f"{name} is gone"
            elif now.id != image.id or not np.array_equal(now.vector, image.vector):
                yield f"{name} has another id or vector than before"
        for name, image in after.items():
            if name not in self.undisturbed or not is_same(image, self.undisturbed[name]):
                yield f"{name} has not the vector that an undisturbed run gives it"
        if len({image.id for image in after.values()}) != len(after):
            yield "two images have one id"


def run(size: str, *, seed: int = 0) -> Figures:
    figures: Figures = {}
    lost: list[str] = []
    sources = {"over files": FILES, "over an archive": ARCHIVE}
    if find_weed() is not None:
        sources["over a store"] = BUCKET
    for name, source in sources.items():
        with contextlib.ExitStack() as stack:
            folder, beside = (
                Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imgindex-kills-"))).resolve() for _ in "ab"
            )
            store = stack.enter_context(running(beside)) if source == BUCKET else None
            kills = Campaign(folder, seed, source, store)
            kills.run(KILLS[size])
        found = {"different numbers of images found": len(kills.counts_after)}
        figures[name] = {"kills": KILLS[size], **dict(sorted(kills.figures.items())), **found}
        lost += [f"{name}: {line}" for line in kills.lost]
    return {**figures, "lost": lost}


if __name__ == "__main__":
    main("kills", run)
