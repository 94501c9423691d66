"""Measures k-means: scikit-learn, plain FAISS and imgindex; time beside objective and memory, on seeded and real data.

    python benchmarks/bench_cluster.py [--size fast|regular|full] [--shape SHAPE] [--vectors FILE.npy -k K]
                                       [--out FILE.json]

Each contender runs in a process of its own, all seeds in turn after one warm-up, so that threads and peak memory
(above what the process held with its data mapped) are its own. The objective is computed here from the labels.
The digits are scikit-learn's: real, but few. `small` is overlapping too, of 10,000 × 64. On these two, scikit-learn and
imgindex run with one restart and with several. --vectors takes other vectors, such as a file of `imgindex export`.
The size full has a million rows. There MiniBatchKMeans runs for scikit-learn, whose seeding alone would take hours.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measure
import numpy as np

SIZES = {"fast": (5_000, 512, 50, 3), "regular": (20_000, 4096, 100, 5), "full": (1_000_000, 512, 1000, 1)}
SHAPES = ("separated", "overlapping", "uniform")
SMALL = (10_000, 64, 50, 9)
CONTENDERS = ("scikit-learn", "faiss", "imgindex")
# On small problems; scikit-learn and imgindex by themselves make one restart and up to ten.
RESTARTED = ("scikit-learn, 10 restarts", "imgindex, 1 restart")
BLOCK = 50_000


def save_vectors(file: str, shape: str, n: int, d: int, k: int) -> None:
    """Write float32 (n, d): Gaussian clusters of unequal size far apart, a blend with a falling spectrum, or noise."""
    rng = np.random.default_rng(0)
    vectors = np.lib.format.open_memmap(file, "w+", np.float32, (n, d))
    labels = rng.choice(k, n, p=rng.dirichlet(np.full(k, 2.0)))
    spectrum = (np.arange(1, 257) ** -0.7).astype(np.float32)
    width = 256 if shape == "overlapping" else d
    centres, mix = (rng.standard_normal((rows, columns), dtype=np.float32) for rows, columns in ((k, width), (256, d)))
    for start in range(0, n, BLOCK):
        block, own = vectors[start : start + BLOCK], centres[labels[start : start + BLOCK]]
        if shape == "uniform":
            block[:] = rng.random(block.shape, dtype=np.float32)
        elif shape == "separated":
            block[:] = own + rng.standard_normal(block.shape, dtype=np.float32)
        else:
            latent = own + rng.standard_normal(own.shape, dtype=np.float32)
            block[:] = (latent * spectrum) @ mix + rng.standard_normal(block.shape, dtype=np.float32) + 2


def cluster(contender: str, vectors: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Return the labels (n,) that a contender finds."""
    if contender.startswith("scikit-learn"):
        from sklearn.cluster import KMeans, MiniBatchKMeans  # type: ignore[import-untyped]

        kind = KMeans if len(vectors) < SIZES["full"][0] else MiniBatchKMeans
        restarts = 10 if contender in RESTARTED else 1
        labels: np.ndarray = kind(k, n_init=restarts, random_state=seed).fit(vectors).labels_
        return labels
    if contender == "faiss":
        import faiss

        trained = faiss.Kmeans(vectors.shape[1], k, seed=seed, max_points_per_centroid=len(vectors))
        trained.train(vectors)
        labels = trained.assign(vectors)[1]
        return labels
    from imgindex.clustering.kmeans import kmeans
    from imgindex.types import VectorBlock
    from imgindex.vectors.rows import VectorRows

    # The mapped rows of each segment, as a store returns them.
    parts = np.array_split(np.arange(len(vectors)), 1 + vectors.nbytes // (1 << 30))
    blocks = [VectorBlock(part, vectors[part[0] : part[-1] + 1]) for part in parts]
    restarts = 1 if contender in RESTARTED else None
    return kmeans(VectorRows.stored(blocks, vectors.shape[1]), k, seed=seed, restarts=restarts).labels


def objective(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Return the sum of squared distances of all rows to the mean of their cluster, in float64."""
    total = 0.0
    for label in np.unique(labels):
        members = vectors[labels == label].astype(np.float64)
        total += float(((members - members.mean(axis=0)) ** 2).sum())
    return total


def run_contender(contender: str, data: str, k: int, seeds: int) -> dict[str, Any]:
    """Run every seed of one contender on the vectors in the .npy file `data`, in this process."""
    vectors = np.load(data, mmap_mode="r")
    cluster(contender, vectors[: 5 * k, :64].copy(), 5, 0)
    vectors[:, 0].sum()  # every page is in memory now, and is not counted for a contender
    before = measure.peak_mib()
    walls, processors, found = [], [], []
    for seed in range(seeds):
        started = time.process_time()
        elapsed, labels = measure.timed(lambda seed=seed: cluster(contender, vectors, k, seed))
        processors.append(time.process_time() - started)
        walls.append(elapsed)
        found.append(labels)
    peak = measure.peak_mib() - before
    objectives = [objective(vectors, labels) for labels in found]
    return {
        "contender": contender,
        "seconds": statistics.median(walls),
        "processor_seconds": statistics.median(processors),
        "objective": statistics.median(objectives),
        "peak_mib_above_data": round(peak),
        "smallest_cluster": min(int(np.bincount(labels, minlength=k).min()) for labels in found),
        "all_seconds": [round(value, 3) for value in walls],
        "all_objectives": objectives,
    }


def against_scikit_learn(rows: list[measure.Row]) -> list[measure.Row]:
    """Add to each row how many times faster it is and how much larger its objective, against scikit-learn's."""
    base = {row["shape"]: row for row in rows if row["contender"] == "scikit-learn"}
    for row in rows:
        row["times_faster"] = round(base[row["shape"]]["seconds"] / row["seconds"], 2)
        row["objective_ratio"] = round(row["objective"] / base[row["shape"]]["objective"], 5)
    return rows


def data_sets(options: argparse.Namespace, folder: str) -> Iterator[tuple[str, str, int, int]]:
    """Yield name, file, k and seeds of each data set; the file is written just before that."""
    n, d, k, seeds = SIZES[options.size]
    if options.vectors:
        yield Path(options.vectors).stem, options.vectors, options.k, seeds
        return
    data = str(Path(folder, "vectors.npy"))
    for shape in (*SHAPES, "small", "digits") if options.shape == "all" else [options.shape]:
        if shape == "digits":
            from sklearn.datasets import load_digits  # type: ignore[import-untyped]

            np.save(data, load_digits().data.astype(np.float32))
            yield shape, data, 10, 9
        elif shape == "small":
            save_vectors(data, "overlapping", *SMALL[:3])
            yield shape, data, *SMALL[2:]
        else:
            save_vectors(data, shape, n, d, k)
            yield shape, data, k, seeds


def main() -> None:
    """Read the command line, run each contender in a child, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="regular")
    parser.add_argument("--shape", choices=(*SHAPES, "small", "digits", "all"), default="all")
    parser.add_argument("--vectors", metavar="FILE.npy", help="float32 (n, d) instead of a shape")
    parser.add_argument("-k", type=int, default=10, help="clusters of --vectors")
    parser.add_argument("--out", metavar="FILE.json")
    parser.add_argument("--child", choices=CONTENDERS + RESTARTED, help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(run_contender(options.child, options.vectors, options.k, options.seeds)))
        return
    n, d, k, seeds = SIZES[options.size]
    rows: list[measure.Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for shape, data, clusters, times in data_sets(options, folder):
            for contender in CONTENDERS + (RESTARTED if shape in ("small", "digits") else ()):
                arguments = ["--child", contender, "--vectors", data, "-k", str(clusters), "--seeds", str(times)]
                rows.append({"shape": shape, **measure.in_child([str(Path(__file__).resolve()), *arguments])})
    rows = against_scikit_learn(rows)
    measure.report("cluster", rows, options.out, size=options.size, n=n, d=d, k=k, seeds=seeds)


if __name__ == "__main__":
    main()
