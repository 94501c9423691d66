"""Measures k-means: scikit-learn, plain FAISS and imgindex, time beside objective and memory, on seeded data.

    python benchmarks/bench_cluster.py [--size fast|regular|large] [--shape separated|overlapping|uniform|all] [--out F]

Each contender runs in a process of its own, all seeds in turn after one warm-up, so that threads and peak memory
(above what the process held with its data ready) are its own. The objective is computed here from the labels.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import measure
import numpy as np

SIZES = {"fast": (5_000, 512, 50, 3), "regular": (20_000, 4096, 100, 5), "large": (100_000, 4096, 200, 3)}
SHAPES = ("separated", "overlapping", "uniform")
CONTENDERS = ("scikit-learn", "faiss", "imgindex")


def make_vectors(shape: str, n: int, d: int, k: int) -> np.ndarray:
    """Return float32 (n, d): Gaussian clusters of unequal size far apart, a blend with a falling spectrum, or noise."""
    rng = np.random.default_rng(0)
    if shape == "uniform":
        return rng.random((n, d), dtype=np.float32)
    labels = rng.choice(k, n, p=rng.dirichlet(np.full(k, 2.0)))
    if shape == "separated":
        centres = rng.standard_normal((k, d), dtype=np.float32)
        apart = rng.standard_normal((n, d), dtype=np.float32)
        apart += centres[labels]
        return apart
    spectrum = (np.arange(1, 257) ** -0.7).astype(np.float32)
    latent = rng.standard_normal((k, 256), dtype=np.float32)[labels] + rng.standard_normal((n, 256), dtype=np.float32)
    vectors: np.ndarray = (latent * spectrum) @ rng.standard_normal((256, d), dtype=np.float32)
    vectors += rng.standard_normal((n, d), dtype=np.float32) + 2
    return vectors


def cluster(contender: str, vectors: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Return the labels (n,) that a contender finds."""
    if contender == "scikit-learn":
        from sklearn.cluster import KMeans  # type: ignore[import-untyped]

        labels: np.ndarray = KMeans(k, n_init=1, random_state=seed).fit(vectors).labels_
        return labels
    if contender == "faiss":
        import faiss

        trained = faiss.Kmeans(vectors.shape[1], k, seed=seed, max_points_per_centroid=len(vectors))
        trained.train(vectors)
        labels = trained.assign(vectors)[1]
        return labels
    from imgindex.analysis.kmeans import kmeans

    return kmeans(vectors, k, seed=seed).labels


def objective(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Return the sum of squared distances of all rows to the mean of their cluster, in float64."""
    total = 0.0
    for label in np.unique(labels):
        members = vectors[labels == label].astype(np.float64)
        total += float(((members - members.mean(axis=0)) ** 2).sum())
    return total


def run_contender(contender: str, shape: str, size: str, data: str) -> dict[str, Any]:
    """Run every seed of one contender on the vectors in the .npy file `data`, in this process."""
    _, _, k, seeds = SIZES[size]
    vectors = np.load(data)
    cluster(contender, vectors[: 5 * k, :64].copy(), 5, 0)
    before = measure.peak_mib()
    runs = [measure.timed(partial(cluster, contender, vectors, k, seed)) for seed in range(seeds)]
    peak = measure.peak_mib() - before
    objectives = [objective(vectors, found) for _, found in runs]
    seconds = [elapsed for elapsed, _ in runs]
    return {
        "shape": shape,
        "contender": contender,
        "seconds": statistics.median(seconds),
        "objective": statistics.median(objectives),
        "peak_mib_above_data": round(peak),
        "smallest_cluster": min(int(np.bincount(found, minlength=k).min()) for _, found in runs),
        "all_seconds": [round(value, 3) for value in seconds],
        "all_objectives": objectives,
    }


def against_scikit_learn(rows: list[measure.Row]) -> list[measure.Row]:
    """Add to each row how many times faster it is and how much larger its objective, against scikit-learn's."""
    base = {row["shape"]: row for row in rows if row["contender"] == "scikit-learn"}
    for row in rows:
        row["times_faster"] = round(base[row["shape"]]["seconds"] / row["seconds"], 2)
        row["objective_ratio"] = round(row["objective"] / base[row["shape"]]["objective"], 5)
    return rows


def main() -> None:
    """Read the command line, run each contender in a child, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="regular")
    parser.add_argument("--shape", choices=(*SHAPES, "all"), default="separated")
    parser.add_argument("--out", metavar="FILE.json")
    parser.add_argument("--child", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(run_contender(options.child, options.shape, options.size, options.data)))
        return
    n, d, k, seeds = SIZES[options.size]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder, "vectors.npy"))
        for shape in SHAPES if options.shape == "all" else [options.shape]:
            np.save(data, make_vectors(shape, n, d, k))
            for contender in CONTENDERS:
                arguments = ["--size", options.size, "--shape", shape, "--child", contender, "--data", data]
                rows.append(measure.in_child([str(Path(__file__).resolve()), *arguments]))
    rows = against_scikit_learn(rows)
    measure.report("cluster", rows, options.out, size=options.size, n=n, d=d, k=k, seeds=seeds)


if __name__ == "__main__":
    main()
