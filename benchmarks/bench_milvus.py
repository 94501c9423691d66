"""Measures an index that a Milvus server searches for, beside the server alone and beside the search of this machine.

    python benchmarks/bench_milvus.py [--rows 20000 200000] [--dimension 512] [--rounds 200] [--out FILE.json]

`send_per_second`: rows that are sent to an empty collection; `compact_s`: all of the first `compact --search`, in which
the server indexes them and the recall is measured. `engine_ms`: the server's own answer to the request that
imgindex makes for an answer, through the same client; `similar_ms`: that of `similar` for a stored image, the two in
turn; `ratio`: between the two. `local_ms`: the same answer by the search of this machine. `engine_1024_ms` and
`search_1024_ms`: a thousand queries at once. `add_ms`: `add` of one image until Milvus has it, without its embedding.

Times are the fastest quarter's, because what disturbs a query makes it slower. The server is the package milvus, in a
network of its own on the same cores; without that package, or with IMGINDEX_TEST_MILVUS, see tests/milvus_server.py.
Vectors are drawn, of length 1 and of about 64 real dimensions.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import tempfile
import time
from pathlib import Path

import measure
import numpy as np
from bench_growth import NoNetwork, fill
from bench_store import image

from imgindex import ImageIndex
from imgindex.search import milvus_sync
from imgindex.search.exact import SPARE
from imgindex.search.faiss_ivf import NEIGHBOURS
from imgindex.search.lifecycle import load_search
from imgindex.search.milvus import SETTLED, Collection
from imgindex.search.upkeep import update_search_files

sys.path.append(str(Path(__file__).parent.parent / "tests"))
import milvus_server

N, BATCH = 10, 1024


def fastest(seconds: list[float]) -> float:
    """Return the mean of the fastest quarter, in milliseconds."""
    return 1000 * float(np.mean(sorted(seconds)[: max(1, len(seconds) // 4)]))


def measured(rows: int, dimension: int, rounds: int, address: str, folder: Path) -> measure.Row:
    """Return the figures of an index of so many images."""
    path = folder / "index"
    ImageIndex.create(path, encoder=NoNetwork(dimension)).close()
    fill(path, rows)
    random = np.random.default_rng(1)
    with ImageIndex.open(path) as index:
        numbers = random.permutation(rows)[:rounds].tolist()
        paths, store = [image(number).file.path for number in numbers], index._store
        index.similar(paths[0], n=N)
        local = [measure.timed(lambda path=path: index.similar(path, n=N))[0] for path in paths]
        started, sent = time.perf_counter(), list[float]()

        def note(progress: object) -> None:
            if getattr(progress, "total", 0) == rows:
                sent.append(time.perf_counter())

        index.compact(search=address, on_progress=note)
        compact = time.perf_counter() - started
        status = index.status()["search"]
        collection = milvus_sync._connected(store, store.catalogue)
        time.sleep(SETTLED + 1)
        vectors = store.vectors([number + 1 for number in numbers])

        # What `similar` asks for: the image itself is among the candidates, and ef grows with their number.
        wanted = N + 1 + SPARE
        ef = math.ceil(status["ef"] * wanted / NEIGHBOURS)

        def ask(collection: Collection, queries: np.ndarray) -> object:
            return collection.search(queries, wanted, kind=status["kind"], ef=ef, strong=False)

        for path, vector in zip(paths[:20], vectors[:20], strict=True):
            index.similar(path, n=N)
            ask(collection, vector[None])
        engine, similar = [], []
        for path, vector in zip(paths, vectors, strict=True):
            engine.append(measure.timed(lambda vector=vector: ask(collection, vector[None]))[0])
            similar.append(measure.timed(lambda path=path: index.similar(path, n=N))[0])
        many = np.resize(vectors, (BATCH, dimension))
        with store.reading():
            search = load_search(store)
            pairs = [
                (measure.timed(lambda: ask(collection, many))[0], measure.timed(lambda: search.search(many, N))[0])
                for _ in range(8)
            ]
        added = []
        for number in range(rows, rows + 5):
            started = time.perf_counter()
            with store.writing() as writer:
                writer.put(image(number), random.standard_normal(dimension, dtype=np.float32))
                writer.commit()
                assert not update_search_files(store, writer).images
            added.append(time.perf_counter() - started)
    return {
        "rows": rows,
        "kind": status["kind"],
        "ef": status["ef"],
        "recall": status["recall"],
        "send_per_second": round(rows / (sent[-1] - sent[0])),
        "compact_s": compact,
        "engine_ms": fastest(engine),
        "similar_ms": fastest(similar),
        "ratio": fastest(similar) / fastest(engine),
        "local_ms": fastest(local),
        "engine_1024_ms": fastest([pair[0] for pair in pairs]),
        "search_1024_ms": fastest([pair[1] for pair in pairs]),
        "add_ms": fastest(added),
    }


def main() -> None:
    """Read the command line, measure each size, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--out", metavar="FILE.json")
    options = parser.parse_args()
    if (reason := milvus_server.why_not()) is not None:
        sys.exit(reason)
    with contextlib.ExitStack() as stack:
        # The server removes its files after the last one that uses it, so maybe beside this.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        server = stack.enter_context(milvus_server.using(folder / "milvus"))
        addresses = stack.enter_context(milvus_server.addresses(server.folder))
        rows = []
        for number in options.rows:
            (folder / str(number)).mkdir()
            address = addresses()
            rows.append(measured(number, options.dimension, options.rounds, address, folder / str(number)))
        measure.report("milvus", rows, options.out, dimension=options.dimension, rounds=options.rounds)


if __name__ == "__main__":
    main()
