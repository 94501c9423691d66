"""Measures the store: commits of several sizes, against a plain file and vectors in SQLite, and opening a large store.

    python benchmarks/bench_store.py [--size fast|regular] [--rounds 3] [--folder DIR] [--out FILE.json]

Every contender makes each batch durable before it takes the next one, as a run of `add` must, because it may be killed
at any moment. imgindex needs two syncs, of the vectors and of SQLite's log; the others need one. The plain file holds
rows only, and no record of which of them are complete. SQLite holds what imgindex's catalogue does, and each vector as
a blob. The disk of the folder (--folder) matters: in memory a sync costs nothing. A second table has the times to open
a store, to read all its vectors and check them against their CRC32, and to look up a thousand paths.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import measure
import numpy as np

from imgindex.storage import durable
from imgindex.storage.records import NewImage
from imgindex.storage.store import Store
from imgindex.types import FoundFile, Vectors

# Batches of each commit size, and rows of the stores that are opened.
SIZES = {"fast": (10, (2_000,)), "regular": (100, (10_000, 100_000))}
BATCHES = (16, 64, 256)
SHAPES = ((512, "float32"), (512, "float16"), (4096, "float32"), (4096, "float16"))
LOOKED_UP = 1_000

Batches = Iterator[tuple[list[NewImage], Vectors]]


class TimedDisk(durable.Disk):
    """The disk, with a count of the seconds spent in waiting for it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def sync(self, path: str, descriptor: int) -> None:
        elapsed, _ = measure.timed(lambda: super(TimedDisk, self).sync(path, descriptor))
        self.seconds += elapsed

    def execute(self, path: str, connection: sqlite3.Connection, statement: str) -> None:
        elapsed, _ = measure.timed(lambda: super(TimedDisk, self).execute(path, connection, statement))
        self.seconds += elapsed


def batches(count: int, size: int, dimension: int) -> Batches:
    """Yield batches of images that are all different, with their vectors."""
    rng = np.random.default_rng(0)
    for batch in range(count):
        numbers = range(batch * size, (batch + 1) * size)
        yield [image(number) for number in numbers], rng.standard_normal((size, dimension), dtype=np.float32)


def image(number: int) -> NewImage:
    """Return the record of an image that has no file."""
    file = FoundFile(f"/photos/{number // 1000:04d}/photo-{number:07d}.jpg", 100_000 + number, number * 10**9)
    return NewImage(file, hashlib.sha256(str(number).encode()).digest(), 4000, 3000, "JPEG")


def new_store(folder: Path, dimension: int, dtype: str) -> Store:
    """Make a store for vectors of that type."""
    settings = {"recipe": "{}", "recipe_digest": "00" * 32, "dimension": str(dimension), "store": dtype}
    return Store.create(str(folder / "index"), settings)


def imgindex(folder: Path, todo: Batches, dimension: int, dtype: str) -> tuple[float, float]:
    """Commit through the store; return the seconds of that, and those in which it waited for the disk."""
    with contextlib.closing(new_store(folder, dimension, dtype)) as store, store.writing() as writer:
        waiting, disk = durable.disk, TimedDisk()
        durable.disk = disk
        try:
            seconds = 0.0
            for images, vectors in todo:
                started = time.perf_counter()
                for one, vector in zip(images, vectors, strict=True):
                    writer.put(one, vector)
                writer.commit()
                seconds += time.perf_counter() - started
        finally:
            durable.disk = waiting
    return seconds, disk.seconds


def plain_file(folder: Path, todo: Batches, dimension: int, dtype: str) -> tuple[float, float]:
    """Append rows to a file and sync it."""
    seconds = waited = 0.0
    with (folder / "rows").open("wb", buffering=0) as file:
        for _, vectors in todo:
            started = time.perf_counter()
            file.write(vectors.astype(dtype).tobytes())
            waited += measure.timed(lambda: os.fsync(file.fileno()))[0]
            seconds += time.perf_counter() - started
    return seconds, waited


def sqlite_blobs(folder: Path, todo: Batches, dimension: int, dtype: str) -> tuple[float, float]:
    """Insert images with their vectors as blobs, in one transaction a batch."""
    seconds = waited = 0.0
    with contextlib.closing(sqlite3.connect(folder / "rows.db", isolation_level=None)) as database:
        database.execute("pragma journal_mode = wal")
        database.execute("pragma synchronous = full")
        database.execute("create table images (id integer primary key, path unique, size, mtime, sha256, vector blob)")
        database.execute("create index by_content on images (sha256)")
        for images, vectors in todo:
            started = time.perf_counter()
            rows = [
                (one.file.path, one.file.size, one.file.mtime_ns, one.sha256, vector.tobytes())
                for one, vector in zip(images, vectors.astype(dtype), strict=True)
            ]
            database.execute("begin")
            database.executemany("insert into images (path, size, mtime, sha256, vector) values (?,?,?,?,?)", rows)
            waited += measure.timed(lambda: database.execute("commit"))[0]
            seconds += time.perf_counter() - started
    return seconds, waited


CONTENDERS: dict[str, Callable[[Path, Batches, int, str], tuple[float, float]]] = {
    "plain file": plain_file,
    "SQLite, vectors as blobs": sqlite_blobs,
    "imgindex": imgindex,
}


def measure_commits(count: int, rounds: int, where: str | None) -> Iterator[measure.Row]:
    """Time every contender with every batch size and form of vectors."""
    for dimension, dtype in SHAPES:
        for size in BATCHES:
            for name, run in CONTENDERS.items():
                runs = []
                for _ in range(rounds):
                    with tempfile.TemporaryDirectory(dir=where) as folder:
                        runs.append(run(Path(folder), batches(count, size, dimension), dimension, dtype))
                seconds, waited = (statistics.median(column) for column in zip(*runs, strict=True))
                rows = count * size
                yield {
                    "vectors": f"{dimension} × {dtype}",
                    "batch": size,
                    "contender": name,
                    "rows_per_second": round(rows / seconds),
                    "megabytes_per_second": rows * dimension * np.dtype(dtype).itemsize / seconds / 1e6,
                    "ms_a_commit": seconds / count * 1000,
                    "share_of_waiting": waited / seconds,
                    "all_seconds": [round(run[0], 4) for run in runs],
                }


def measure_reading(rows: int, rounds: int, where: str | None) -> measure.Row:
    """Time what a reader does with a store of that many rows."""
    dimension, size = 512, 1_000
    with tempfile.TemporaryDirectory(dir=where) as name:
        folder = Path(name)
        imgindex(folder, batches(rows // size, size, dimension), dimension, "float32")
        path = str(folder / "index")
        paths = [image(number).file.path for number in range(0, rows, max(1, rows // LOOKED_UP))]
        opening = measure.median_seconds(lambda: Store(path).close(), rounds)
        with contextlib.closing(Store(path)) as store:
            ids = list(store.catalogue.image_paths())
            listing = measure.median_seconds(store.catalogue.image_paths, rounds)
            vectors = measure.median_seconds(partial(store.vectors, ids), rounds)
            looking = measure.median_seconds(partial(store.catalogue.known, paths), rounds)
        return {
            "rows": rows,
            "open_ms": opening * 1000,
            "all_paths_ms": listing * 1000,
            "all_vectors_ms": vectors * 1000,
            "look_up_us_a_path": looking / len(paths) * 1e6,
            "peak_mib": round(measure.peak_mib()),
        }


def main() -> None:
    """Read the command line, measure commits, then reading, print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="regular")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", metavar="DIR", help="Where to write; the system's temporary folder by default.")
    parser.add_argument("--out", metavar="FILE.json")
    options = parser.parse_args()
    count, stores = SIZES[options.size]
    rows = list(measure_commits(count, options.rounds, options.folder))
    reading = [measure_reading(number, options.rounds, options.folder) for number in stores]
    measure.report("store", rows, options.out, size=options.size, rounds=options.rounds, reading=reading)
    print()
    measure.report("reading", reading, None)


if __name__ == "__main__":
    main()
