"""One worker of the campaign `stress`: uses an index for some seconds, and prints what happened as JSON.

    python stress_worker.py ROLE FOLDER SECONDS SEED

The colour of a picture follows from its name, `NUMBER.png` or `NUMBER.VERSION.png`, so every vector can be checked.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, os.fspath(Path(__file__).parents[1]))

from grid_mean import GridMean
from pictures import draw

from imgindex import ImageIndex
from imgindex.errors import IndexLocked, PathNotFound

NUMBERS = 250
SHARED = "shared"
# A writer does all kinds of writing, so that few processes make much trouble.
CHOICES = {
    "writer": ["adder"] * 3 + ["changer"] * 4 + ["remover", "compacter", "repairer"],
    "reader": ["reader"],
}
TASKS = {"writer": ("add", "remove", "compact", "repair"), "reader": ("similar",)}


def colour(name: str) -> tuple[int, int, int]:
    """The colour of a picture, by its file's name."""
    number = int(Path(name).name.split(".")[0])
    return (number % 251, number * 7 % 241, number * 13 % 239)


def vectors_of(paths: list[str]) -> np.ndarray:
    return np.tile(
        np.array([colour(path) for path in paths], dtype=np.float32).reshape(-1, 3) / np.float32(255), (1, 4)
    )


def put(folder: Path, number: int, copy: str = "") -> None:
    """Draw a picture, at once as a whole."""
    target = folder / f"{number}.{copy}png"
    # Of another size it has other bytes, and the same vector.
    size = 32 + time.monotonic_ns() % 8
    unfinished = draw(folder.parent.parent / "unfinished" / f"{os.getpid()}.png", colour(target.name), (size, size))
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(unfinished, target)


class Worker:
    """Counts what it does; `met` has everything that must not happen."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.index, self.pictures = folder, folder / "it.imgindex", folder / "pictures"
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.met: list[str] = []
        self.segments: set[int] = set()

    def opened(self) -> ImageIndex:
        index = ImageIndex.open(self.index, encoder=GridMean(batch_size=8))
        return index

    def write(self, name: str, act: Callable[[ImageIndex], object], *, wait: bool) -> None:
        """Write; the only error that is allowed is that another process writes."""
        with self.opened() as index:
            index._wait = wait
            try:
                act(index)
                self.counts[name + (" with wait" if wait else "")] += 1
            except IndexLocked as error:
                self.counts[f"{name} refused"] += 1
                if wait or "process" not in str(error):
                    self.met.append(f"{name}: {error}")

    def has_done(self, tasks: Sequence[str]) -> bool:
        return all(self.counts[task] + self.counts[f"{task} with wait"] for task in tasks)

    # writers

    def adder(self) -> None:
        wait = self.random.random() < 0.5
        self.write("add", lambda index: index.add([self.pictures / SHARED, self.pictures / "mine"]), wait=wait)

    def changer(self) -> None:
        """Change pictures on the disk: new, copied, renamed and deleted ones."""
        here = sorted((self.pictures / SHARED).glob("*.png"))
        for _ in range(self.random.randrange(1, 12)):
            number = self.random.randrange(NUMBERS)
            kind = self.random.choice(["new", "copy", "rename", "delete"] if here else ["new"])
            if kind == "new":
                put(self.pictures / SHARED, number)
            elif kind == "copy":
                put(self.pictures / SHARED, number, f"{self.random.randrange(5)}.")
            else:
                path = self.random.choice(here)
                with contextlib.suppress(FileNotFoundError):  # the other writer was faster
                    if kind == "delete":
                        path.unlink()
                    else:
                        os.rename(path, path.with_name(f"{path.name.split('.')[0]}.{self.random.randrange(5, 9)}.png"))
            self.counts[f"picture: {kind}"] += 1
        time.sleep(0.01)  # pictures change, but not faster than a scan

    def remover(self) -> None:
        with self.opened() as index:
            paths = index.paths()
        if not paths:
            return
        chosen = [os.path.abspath(path) for path in self.random.sample(paths, min(3, len(paths)))]

        def remove(index: ImageIndex) -> None:
            try:
                index.remove(chosen)
            except PathNotFound:
                self.counts["remove found nothing"] += 1

        self.write("remove", remove, wait=self.random.random() < 0.5)

    def compacter(self) -> None:
        self.write("compact", lambda index: index.compact(), wait=self.random.random() < 0.5)

    def repairer(self) -> None:
        """Repair what is sound."""
        wait = self.random.random() < 0.5

        def repair(index: ImageIndex) -> None:
            report = ImageIndex.repair(self.index, encoder=GridMean(batch_size=8), wait=wait)
            self.hold(not report.mended and not report.dropped, f"repair found something: {report}")

        self.write("repair", repair, wait=wait)

    # readers

    def reader(self) -> None:
        """Everything that reads, from an index that is opened each time or stays open."""
        with self.opened() as index:
            for _ in range(self.random.randrange(1, 5)):
                for look in (self.similar, self.whole, self.export, self.cluster, self.verify, self.lists):
                    look(index)
                    self.counts[look.__name__] += 1
                self._count_compactions(index)

    def _count_compactions(self, index: ImageIndex) -> None:
        now = set(index._store.catalogue.segments())
        self.counts["compactions seen"] += bool(self.segments - now)
        self.segments = now

    def similar(self, index: ImageIndex) -> None:
        """All matches, their distances and their order, from one state of the index."""
        number = self.random.randrange(NUMBERS)
        query = self.folder / "asked" / f"{number}.png"
        with index._store.reading():
            paths, vectors = index.paths(), index.vectors()
            if not paths:
                return
            matches = index.similar(query, n=len(paths) + 5, include_self=True)
        self.hold(np.array_equal(vectors, vectors_of(paths)), "vectors and paths do not agree")
        distances = dict(zip(paths, np.linalg.norm(vectors - vectors_of([query.name]), axis=1), strict=True))
        self.hold(sorted(match.path for match in matches) == sorted(paths), "similar answers from another state")
        found = [match.distance for match in matches]
        self.hold(np.allclose(found, [distances[match.path] for match in matches], atol=1e-5), "a distance is wrong")
        self.hold(found == sorted(found), "matches are not in order")

    def whole(self, index: ImageIndex) -> None:
        """A search that takes its own snapshot: no match has another's distance."""
        query = self.random.randrange(NUMBERS)
        for match in index.similar(self.folder / "asked" / f"{query}.png", n=20):
            true = float(np.linalg.norm(vectors_of([match.path]) - vectors_of([f"{query}.png"])))
            self.hold(abs(match.distance - true) < 1e-5, f"{match.path} has the distance {match.distance}, not {true}")

    def export(self, index: ImageIndex) -> None:
        out = self.folder / "out" / f"{os.getpid()}.npz"
        count = index.export(out)
        with np.load(out) as data:
            paths, vectors = data["paths"].tolist(), data["vectors"]
            self.hold(count == len(paths) == len(data["ids"]) == len(set(data["ids"].tolist())), "counts differ")
        self.hold(np.array_equal(vectors, vectors_of(paths)), "export: vectors and paths do not agree")

    def cluster(self, index: ImageIndex) -> None:
        with index._store.reading():
            distinct = len({colour(path) for path in index.paths()})
            if distinct < 3:
                return
            clustering = index.cluster(3, restarts=1, iterations=3)
            self.hold(clustering.paths == index.paths(), "cluster answers from another state")
        nearest = [
            np.linalg.norm(clustering.centroids - vector, axis=1).min() ** 2 for vector in vectors_of(clustering.paths)
        ]
        self.hold(np.isclose(clustering.objective, np.sum(nearest), rtol=1e-3, atol=1e-4), "the objective is wrong")

    def verify(self, index: ImageIndex) -> None:
        report = index.verify(full=True)
        self.hold(report.ok, f"verify finds {report.problems}")

    def lists(self, index: ImageIndex) -> None:
        with index._store.reading():
            images, status = list(index.images()), index.status()
            self.hold(status["images"] == len(images) == len(index), "status and list differ")
        self.hold(len({image.path for image in images}) == len(images), "a path is listed twice")

    def hold(self, promise: bool, words: str) -> None:
        if not promise:
            self.met.append(words)


def work(role: str, folder: Path, seconds: float, seed: int) -> dict[str, object]:
    """Do what the role does, over and over."""
    worker, end = Worker(folder, seed), time.monotonic() + seconds
    waits = logging.StreamHandler()
    waits.emit = lambda record: worker.counts.update(waits=1)  # type: ignore[method-assign]
    logging.getLogger("imgindex.storage.lock").addHandler(waits)
    logging.getLogger("imgindex.storage.lock").setLevel(logging.INFO)
    # On a busy machine, too, everything is done at least once.
    while (time.monotonic() < end or not worker.has_done(TASKS[role])) and len(worker.met) < 5:
        task = worker.random.choice(CHOICES[role])
        try:
            getattr(worker, task)()
        except Exception as error:  # noqa: BLE001  no exception is allowed here
            worker.met.append(f"{task}: {type(error).__name__}: {error}")
    return {"counts": worker.counts, "met": worker.met}


def prepare(folder: Path) -> None:
    """Make an index of some pictures."""
    for number in range(40):
        put(folder / "pictures" / SHARED, number)
        put(folder / "pictures" / "mine", 100 + number)
    for number in range(NUMBERS):
        draw(folder / "asked" / f"{number}.png", colour(f"{number}.png"))
    (folder / "out").mkdir()
    with ImageIndex.create(folder / "it.imgindex", encoder=GridMean()) as index:
        index.add([folder / "pictures"])


if __name__ == "__main__":
    print(json.dumps(work(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))))
