"""Measures how an index grows: opening it, adding one image, answers, conditions and status, by the number of images.

    python benchmarks/bench_growth.py [--rows 100000 1000000] [--dimension 64] [--rounds 3] [--exact] [--out FILE.json]

The images have no files, and their vectors are drawn around centres: nothing is decoded or encoded, so the figures are
those of the catalogue, the segments and the search. The catalogue is filled by SQL, as fast as SQLite inserts, and is
the same as one that `add` would have filled.

`open_mb`: what opening the index reads of the catalogue. `add_ms`: to commit one image and close the writer, with what
that reads and writes (`add_read_mb`, `add_written_mb`). `similar_ms`: an answer for a stored image, after the first.
`first_similar_ms`: the first, which reads the places of all vectors and loads or makes the search. `condition_ms`: an
answer among a hundred images that a condition selects by their ids. `status_ms`: what `imgindex status` computes.
--exact: build no search index, so that answers are those of the exact search; what the rest costs stays the same.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import measure
import numpy as np
from bench_store import image

from imgindex import ImageIndex
from imgindex.search.lifecycle import EXACT_ROWS, update_search_index
from imgindex.storage.segments import Segments, Tail
from imgindex.storage.store import Store
from imgindex.types import Pixels, Vectors

# How many rows are drawn and written together.
ROWS = 1 << 16
CENTRES = 2_000
PATHS = "printf('/photos/%04d/photo-%07d.jpg', n / 1000, n)"


def fill(path: Path, rows: int, *, exact: bool = False) -> None:
    """Fill a new index with so many images, whose names are those of `bench_store.image`.

    exact: without the search index that so many images have otherwise.
    """
    with contextlib.closing(Store(str(path))) as store, store.writing() as writer:
        tail = Tail(store.segments, {}, first=1)
        connection = writer.catalogue.connection
        connection.execute("create temporary table vectors (n integer primary key, segment, row, crc32)")
        for written in vectors(store.segments, tail, rows):
            connection.executemany("insert into vectors values (?, ?, ?, ?)", written)
        with writer.catalogue.atomic():
            for number, count in tail.rows.items():
                writer.catalogue.set_rows(number, count)
            connection.execute(
                f"""insert into images (path, size, mtime_ns, ctime_ns, inode, sha256, width, height, format, segment,
                                        row, crc32, added_at)
                    select {PATHS}, 100000 + n, n * 1000000000, n * 1000000000, n, randomblob(32), 4000, 3000, 'JPEG',
                           segment, row, crc32, '2026-01-01T00:00:00+00:00'
                    from vectors order by n"""
            )
    if rows > EXACT_ROWS and not exact:
        with contextlib.closing(Store(str(path))) as store, store.writing() as writer:
            update_search_index(store, writer)


def vectors(segments: Segments, tail: Tail, rows: int) -> Iterator[list[tuple[int, int, int, int]]]:
    """Write vectors of length 1 around centres, and yield number, segment, row and CRC32 of each."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((CENTRES, segments.dimension), dtype=np.float32)
    for start in range(0, rows, ROWS):
        count = min(ROWS, rows - start)
        drawn = centres[random.integers(CENTRES, size=count)]
        drawn += 0.6 * random.standard_normal(drawn.shape, dtype=np.float32)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        yield [(start + number, *place) for number, place in enumerate(tail.append(drawn))]


class NoNetwork:
    """Declares vectors of a dimension; the benchmark writes them itself."""

    name, digest, side, norm = "drawn", "00" * 32, 320, "l2"

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension

    def encode(self, batch: Pixels) -> Vectors:
        raise NotImplementedError


class Traffic:
    """Counts what this process reads and writes through the system's calls, in MB."""

    def __init__(self) -> None:
        self.start = self.now()

    @staticmethod
    def now() -> tuple[int, int]:
        fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(fields["rchar"]), int(fields["wchar"])

    def megabytes(self) -> tuple[float, float]:
        read, written = (after - before for before, after in zip(self.start, self.now(), strict=True))
        return read / 1e6, written / 1e6


def measured(rows: int, dimension: int, rounds: int, where: str | None, *, exact: bool) -> measure.Row:
    """Return the figures of an index of so many images."""
    with tempfile.TemporaryDirectory(dir=where) as name:
        path = Path(name) / "index"
        ImageIndex.create(path, encoder=NoNetwork(dimension), store="fp16").close()
        fill(path, rows, exact=exact)
        catalogue = os.path.getsize(path / "catalogue.db")
        traffic = Traffic()
        Store(str(path)).close()
        opened = traffic.megabytes()[0]
        opening = measure.median_seconds(lambda: Store(str(path)).close(), rounds)
        adding, added = adds(path, rows, rounds)
        with ImageIndex.open(path) as index:
            numbers = iter(np.random.default_rng(1).permutation(rows).tolist())

            def similar(where: str | None = None) -> Callable[[], object]:
                return lambda: index.similar(image(next(numbers)).file.path, n=10, where=where)

            first, _ = measure.timed(similar())
            warm = measure.median_seconds(similar(), max(rounds, 15))
            condition = measure.median_seconds(similar(f"id between {rows // 2} and {rows // 2 + 99}"), max(rounds, 5))
            status, _ = measure.timed(index.status)
        return {
            "rows": rows,
            "catalogue_mb": catalogue / 1e6,
            "open_mb": opened,
            "open_ms": opening * 1000,
            "add_ms": adding * 1000,
            "add_read_mb": added[0],
            "add_written_mb": added[1],
            "first_similar_ms": first * 1000,
            "similar_ms": warm * 1000,
            "condition_ms": condition * 1000,
            "status_ms": status * 1000,
            "peak_mib": round(measure.peak_mib()),
        }


def adds(path: Path, rows: int, rounds: int) -> tuple[float, tuple[float, float]]:
    """Return the median seconds to add an image, from opening the index to its end, and what that read and wrote."""
    random, seconds, traffic = np.random.default_rng(2), [], Traffic()
    for number in range(rows, rows + rounds):
        traffic, started = Traffic(), time.perf_counter()
        with contextlib.closing(Store(str(path))) as store, store.writing() as writer:
            writer.put(image(number), random.standard_normal(store.segments.dimension, dtype=np.float32))
            writer.commit()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), traffic.megabytes()


def main() -> None:
    """Read the command line, measure each size, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--exact", action="store_true", help="Build no search index.")
    parser.add_argument("--folder", metavar="DIR", help="Where to write; the system's temporary folder by default.")
    parser.add_argument("--out", metavar="FILE.json")
    options = parser.parse_args()
    rows = [
        measured(number, options.dimension, options.rounds, options.folder, exact=options.exact)
        for number in options.rows
    ]
    facts = {"dimension": options.dimension, "rounds": options.rounds} | ({"exact": True} if options.exact else {})
    measure.report("growth", rows, options.out, **facts)


if __name__ == "__main__":
    main()
