"""Measures an open index as a service uses it: opening it, and single calls of `similar` with images that it has.

    python benchmarks/bench_api.py [--rows 99999 100000] [--dimension 512] [--calls 1000] [--out FILE.json]

The images are those of bench_growth.py: they have no files, and their vectors are drawn around centres. Below 100,000
images all are compared, and from there on FAISS proposes candidates.

`open_ms`: opening and closing the index. `first_ms`: the first call, which checks the vectors and makes or loads the
search. `similar_ms`: the median of the calls after it, and `similar_cpu_ms` of their processor time, in which waiting
for other programs does not count; each the least of three rounds. `without_search_ms`: the processor time of the same
calls when the search returns a ready answer: what imgindex adds to it. `threads_per_second`: calls per second from four
threads that share the index.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import measure
import numpy as np
from bench_growth import NoNetwork, fill
from bench_store import image

from imgindex import ImageIndex
from imgindex.search.lifecycle import load_search

ROUNDS, OPENINGS, THREADS = 3, 15, 4


def times(call: Callable[[str], object], paths: list[str]) -> tuple[float, float]:
    """Return the median wall time and processor time of a call in milliseconds, each of the best round."""
    walls, used = [], []
    for _ in range(ROUNDS):
        wall, processor = [], []
        for path in paths:
            started, before = time.perf_counter(), time.process_time()
            call(path)
            processor.append(time.process_time() - before)
            wall.append(time.perf_counter() - started)
        walls.append(statistics.median(wall) * 1000)
        used.append(statistics.median(processor) * 1000)
    return min(walls), min(used)


def measured(rows: int, dimension: int, calls: int, where: str | None) -> measure.Row:
    """Return the figures of an index of so many images."""
    with tempfile.TemporaryDirectory(dir=where) as name:
        place = Path(name) / "index"
        ImageIndex.create(place, encoder=NoNetwork(dimension)).close()
        fill(place, rows)
        opening = min(measure.timed(lambda: ImageIndex.open(place).close())[0] for _ in range(OPENINGS))
        chosen = np.random.default_rng(1).choice(rows, calls + 1, replace=False).tolist()
        first, *paths = [image(number).file.path for number in chosen]
        with ImageIndex.open(place) as index:
            began, _ = measure.timed(lambda: index.similar(first, n=10))
            wall, used = times(lambda path: index.similar(path, n=10), paths)
            with ThreadPoolExecutor(THREADS) as pool:
                together, _ = measure.timed(lambda: list(pool.map(lambda path: index.similar(path, n=10), paths)))
            search = load_search(index._store)
            ready = search.search(np.zeros((1, dimension), np.float32), 11)
            search.search = lambda queries, n: ready  # type: ignore[method-assign]
            _, without = times(lambda path: index.similar(path, n=10), paths)
        return {
            "rows": rows,
            "search": type(search).__name__,
            "open_ms": opening * 1000,
            "first_ms": began * 1000,
            "similar_ms": wall,
            "similar_cpu_ms": used,
            "without_search_ms": without,
            "threads_per_second": calls / together,
            "peak_mib": round(measure.peak_mib()),
        }


def main() -> None:
    """Read the command line, measure each size, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[99_999, 100_000])
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--folder", metavar="DIR", help="Where to write; the system's temporary folder by default.")
    parser.add_argument("--out", metavar="FILE.json")
    options = parser.parse_args()
    rows = [measured(number, options.dimension, options.calls, options.folder) for number in options.rows]
    measure.report("api", rows, options.out, dimension=options.dimension, calls=options.calls)


if __name__ == "__main__":
    main()
