"""Measures search: recall@10 against speed and memory, of FAISS, scikit-learn, usearch and imgindex, on seeded data.

    python benchmarks/bench_search.py [--size fast|growth|full] [--out FILE.json]

Each contender runs in a process of its own over the same mapped .npy files: rows, and queries that are not among them.
usearch is left out if it is not installed. `ms_one` is the median of single queries, `ms_batch` the time per query in a
batch of all. Memory is that of the whole process, including the mapped rows (`rows_mib`).

Rows are drawn around centres of unequal weight and width (Dirichlet, spread 0.2 to 0.9 of the distance between centres)
in 128 latent dimensions of falling variance (i^-0.7). A random linear map, noise and a ReLU turn them into d numbers,
which are normalised. Like pooled vectors of a network they have many neighbours, close to each other and in several
lists.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import measure
import numpy as np

SIZES = {
    "fast": [(30_000, 512)],
    "growth": [(10_000, 512), (100_000, 512), (300_000, 512)],
    "full": [(1_000_000, 512), (200_000, 4096)],
}
# The answers of the first one are the truth for the others.
OURS = ("imgindex exact fp32", "faiss.knn", "imgindex exact fp16", "imgindex index")
CONTENDERS = (*OURS, "scikit-learn", "usearch")
LATENT, K, QUERIES, ONES, PIECE = 128, 10, 500, 20, 20_000
SPREADS = (0.25, 0.5, 1, 2)

Search = Callable[[np.ndarray], np.ndarray]


def write_vectors(path: Path, n: int, d: int, *, part: int) -> None:
    """Write float32 (n, d) as described at the top of this file, a piece at a time; each part has its own rows."""
    rng = np.random.default_rng(0)
    spectrum = (np.arange(1, LATENT + 1) ** -0.7).astype(np.float32)
    to_rows = rng.standard_normal((LATENT, d), dtype=np.float32)
    centres = rng.standard_normal((1000, LATENT), dtype=np.float32)
    weights, spreads = rng.dirichlet(np.ones(1000)), rng.uniform(0.2, 0.9, (1000, 1)).astype(np.float32)
    out = np.lib.format.open_memmap(str(path), "w+", np.float32, (n, d))
    for start in range(0, n, PIECE):
        rng, count = np.random.default_rng([part, start]), min(PIECE, n - start)
        labels = rng.choice(1000, count, p=weights)
        latent = centres[labels] + spreads[labels] * rng.standard_normal((count, LATENT), dtype=np.float32)
        rows = (latent * spectrum) @ to_rows
        rows += 0.5 + 0.1 * rng.standard_normal((count, d), dtype=np.float32)
        np.maximum(rows, 0, out=rows)
        out[start : start + count] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    out.flush()


def exact(contender: str, rows: np.ndarray) -> Search:
    """Return an exact search: distances (q, 10) of queries (q, d)."""
    if contender == "faiss.knn":
        import faiss

        return lambda queries: np.sqrt(faiss.knn(queries, rows, K)[0].clip(0))
    if contender == "scikit-learn":
        from sklearn.neighbors import NearestNeighbors  # type: ignore[import-untyped]

        with_fit = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(rows)
        return lambda queries: with_fit.kneighbors(queries)[0]
    from imgindex.search.exact import ExactSearch
    from imgindex.types import VectorBlock

    stored = np.asarray(rows, dtype=np.float16) if contender.endswith("fp16") else rows
    search = ExactSearch([VectorBlock(np.arange(len(rows)), stored)])
    return lambda queries: search.search(queries, K).distances


def settings(contender: str, rows: np.ndarray) -> Iterator[tuple[str, Search]]:
    """Build a contender and yield it at each of its settings, with the name of the setting."""
    if contender == "imgindex index":
        from dataclasses import replace

        from imgindex.search.faiss_build import build
        from imgindex.search.faiss_ivf import IvfSearch
        from imgindex.types import VectorBlock

        blocks = [VectorBlock(np.arange(len(rows)), rows)]
        built = build(blocks, dimension=rows.shape[1], target=0.99)
        chosen, search = built.metadata, IvfSearch(built.index, built.metadata, blocks, [len(rows)])
        for spread in SPREADS:
            nprobe = min(chosen.nlist, max(1, round(chosen.nprobe * spread)))
            search.metadata = replace(chosen, nprobe=nprobe)
            name = f"{chosen.factory} nprobe {nprobe} refine {chosen.refine}" + " (chosen)" * (spread == 1)
            yield name, lambda queries: search.search(queries, K).distances
    elif contender == "usearch":
        from usearch.index import Index  # type: ignore[import-not-found]

        index = Index(ndim=rows.shape[1], metric="l2sq", dtype="f16")
        index.add(np.arange(len(rows)), rows)
        for ef in (32, 64, 128, 256):
            index.expansion_search = ef

            def search_graph(queries: np.ndarray) -> np.ndarray:
                keys = np.atleast_2d(index.search(queries, K).keys).astype(np.int64)
                return np.sort(np.linalg.norm(rows[keys] - queries[:, None], axis=2), axis=1)

            yield f"HNSW f16 ef {ef}", search_graph
    else:
        yield "", exact(contender, rows)


def run_contender(contender: str, folder: str) -> dict[str, Any]:
    """Build one contender over the rows in a folder and time its settings, in this process."""
    rows, queries = np.load(f"{folder}/rows.npy", mmap_mode="r"), np.load(f"{folder}/queries.npy")
    truth = Path(folder, "truth.npy")
    found, made = [], settings(contender, rows)
    build_seconds, current = measure.timed(lambda: next(made, None))
    while current:
        setting, search = current
        search(queries[:1])
        ones = [measure.timed(partial(search, query))[0] for query in np.split(queries[:ONES], ONES)]
        batch, distances = measure.timed(partial(search, queries))
        if not truth.exists():
            np.save(truth, distances)
        # Other formulas for the distance may round it up.
        hits = distances <= np.load(truth)[:, -1:] * (1 + 1e-5) + 1e-6
        found.append(
            {
                "n": len(rows),
                "d": rows.shape[1],
                "contender": contender,
                "setting": setting,
                "recall_at_10": round(float(hits.mean()), 4),
                "ms_one": 1e3 * statistics.median(ones),
                "ms_batch": 1e3 * batch / len(queries),
                "build_seconds": round(build_seconds, 2),
                "peak_mib": round(measure.peak_mib()),
                "rows_mib": round(rows.nbytes / 2**20),
            }
        )
        current = next(made, None)
    return {"rows": found}


def against_exact(rows: list[measure.Row]) -> list[measure.Row]:
    """Add to each row how many times faster it is than imgindex's exact search over the same rows."""
    base = {(row["n"], row["d"]): row for row in rows if row["contender"] == "imgindex exact fp32"}
    for row in rows:
        of = base[row["n"], row["d"]]
        row["times_faster_one"] = round(of["ms_one"] / row["ms_one"], 2)
        row["times_faster_batch"] = round(of["ms_batch"] / row["ms_batch"], 2)
    return rows


def main() -> None:
    """Read the command line, make the data, run each contender in a child, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="fast")
    parser.add_argument("--out", metavar="FILE.json")
    parser.add_argument("--child", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(run_contender(options.child, options.data)))
        return
    names = [name for name in CONTENDERS if name != "usearch" or importlib.util.find_spec("usearch")]
    found = []
    for n, d in SIZES[options.size]:
        with tempfile.TemporaryDirectory() as folder:
            write_vectors(Path(folder, "rows.npy"), n, d, part=1)
            write_vectors(Path(folder, "queries.npy"), QUERIES, d, part=2)
            for name in names if options.size != "growth" else OURS:
                found += measure.in_child([str(Path(__file__).resolve()), "--child", name, "--data", folder])["rows"]
    measure.report("search", against_exact(found), options.out, size=options.size, queries=QUERIES, k=K)


if __name__ == "__main__":
    main()
