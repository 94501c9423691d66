"""Measures what averaging with neighbours (`similar --rerank`, `cluster --smooth`) changes, and what it costs.

    python benchmarks/bench_smoothing.py --photos photos.tar [--out FILE.json]

The photos are CLASS/FILE. P@1: the nearest other photo is of the same class. mAP: mean average precision with all
others ranked. Both are scored leave-one-out; "new" photos are not in the index that is searched, and a half of the
photos are that in each of several draws. NMI: k-means with as many clusters as there are classes, the median of seeds.
`…_interval`: 95 % bootstrap over the queries of the difference, with the collection held fixed.

Small classes: of every other class only a few photos are kept, drawn several times; scores are those of these photos
alone, of the other classes alone, and NMI of all.

Distractors are drawn, they are no pictures: classes of 50 vectors, whose centres have the mean and covariance of the
photos, and whose members have the covariance of the photos within their classes; negative numbers become 0, and rows
are normalised. `nearest` in the facts compares the distances to the nearest neighbour with those among photos.

Costs are of processes of their own, on an index of the photos and distractors, without their start. The time of the
processor counts all cores; set OMP_NUM_THREADS=1 on a busy machine, where threads wait for each other. Peak memory has
the mapped rows in it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import numpy as np
from threadpoolctl import threadpool_limits

Score = dict[str, Any]

SEEDS, DRAWS, RESAMPLES = range(5), 20, 2000
KEPT = (2, 3, 5, 8)
ROWS, MEMBERS, NEWER = 100_000, 50, 100
STEPS = ("plain query", "build", "query", "update", "updated query", "cluster", "smooth cluster")
K = 10


def photo_vectors(archive: Path, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors (n, d) of labelled photos by the default recipe, and their classes (n,)."""
    import photos

    from imgindex import ImageIndex

    classes = photos.labelled(archive, folder / "photos")
    with ImageIndex.create(folder / "photos.imgindex") as index:
        index.add([folder / "photos"])
        vectors, names = index.vectors(), [classes[Path(path)] for path in index.paths()]
    return vectors, np.unique(names, return_inverse=True)[1]


def averaged(vectors: np.ndarray, queries: np.ndarray | None = None) -> np.ndarray:
    """Return the averages of unit vectors by imgindex's own code; or those of queries that are not among them."""
    from imgindex.search.exact import ExactSearch
    from imgindex.search.smoothing import NEIGHBOURS, Neighbourhoods, average, each_average, find_neighbours
    from imgindex.types import VectorBlock
    from imgindex.vectors.rows import VectorRows

    ids, points = np.arange(len(vectors)), VectorRows.of(vectors)
    search = ExactSearch([VectorBlock(ids, vectors)])
    if queries is not None:
        return average(queries, search.search(queries, NEIGHBOURS).ids, ids, points, unit=True)
    none, silent = Neighbourhoods.none(), lambda progress: None
    known = find_neighbours(points, ids, ids, search, lambda some: search, none, silent)
    return np.concatenate([rows for _, rows in each_average(points, known, unit=True)])


def precisions(queries: np.ndarray, rows: np.ndarray, own: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return P@1 and average precision (q, 2) of queries.

    own (q,): the place of the query among the rows, which is no answer, −1 for none. right (q, n): the right answers.
    """
    found = []
    for query, place, of_class in zip(queries.astype(np.float64), own, right, strict=True):
        distances = ((rows - query) ** 2).sum(axis=1)
        order = np.argsort(distances, kind="stable")
        hits = of_class[order[order != place]]
        among = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        found.append((float(hits[0]), float((among * hits).sum() / max(1, hits.sum()))))
    return np.array(found)


def leave_one_out(vectors: np.ndarray, classes: np.ndarray, queries: np.ndarray | None = None) -> np.ndarray:
    """Return P@1 and average precision (q, 2) of photos (the places `queries`), each against all other rows."""
    queries = np.arange(len(vectors)) if queries is None else queries
    return precisions(vectors[queries], vectors, queries, classes[queries, None] == classes)


def nmi(vectors: np.ndarray, classes: np.ndarray) -> float:
    from sklearn.metrics import normalized_mutual_info_score

    from imgindex.clustering.kmeans import kmeans

    k = len(np.unique(classes))
    found = [normalized_mutual_info_score(classes, kmeans(vectors, k, seed=seed).labels) for seed in SEEDS]
    return float(statistics.median(found))


def row(what: str, images: int, plain: np.ndarray, smooth: np.ndarray, nmis: tuple[float, float] | None) -> Score:
    """Return a line of the table, from P@1 and average precision (q, 2) of each query before and after."""
    rng = np.random.default_rng(0)
    difference = (smooth - plain)[:, 1]
    means = difference[rng.integers(0, len(difference), (RESAMPLES, len(difference)))].mean(axis=1)
    before, after = plain.mean(axis=0), smooth.mean(axis=0)
    found = {
        "what": what,
        "images": images,
        "queries": len(plain),
        "p_at_1": round(float(before[0]), 3),
        "p_at_1_averaged": round(float(after[0]), 3),
        "map": round(float(before[1]), 3),
        "map_averaged": round(float(after[1]), 3),
        "map_interval": [round(float(end), 3) for end in np.percentile(means, [2.5, 97.5])],
        "nmi": "",
        "nmi_averaged": "",
    }
    return found | ({"nmi": round(nmis[0], 3), "nmi_averaged": round(nmis[1], 3)} if nmis else {})


def quality(vectors: np.ndarray, classes: np.ndarray) -> list[Score]:
    """Return the lines on all photos, new photos and small classes."""
    smooth = averaged(vectors)
    both = nmi(vectors, classes), nmi(smooth, classes)
    lines = [row("all", len(vectors), leave_one_out(vectors, classes), leave_one_out(smooth, classes), both)]
    lines.append(new_photos(vectors, classes))
    for kept in KEPT:
        lines += small_classes(vectors, classes, kept)
    return lines


def among_distractors(folder: Path, classes: np.ndarray) -> Score:
    """Return the line on the first images of the large index, which are the photos, by the averages that it has."""
    from imgindex import ImageIndex
    from imgindex.search.smoothed import smoothed_rows

    own = np.arange(len(classes))
    with ImageIndex.open(folder / "large.imgindex") as index:
        rows, averages = index.vectors(), smoothed_rows(index._store).vectors
        labels = np.concatenate([classes, np.full(len(rows) - len(classes), -1)])
        plain, smooth = leave_one_out(rows, labels, own), leave_one_out(averages, labels, own)
    return row("photos among distractors", len(rows), plain, smooth, None)


def new_photos(vectors: np.ndarray, classes: np.ndarray) -> Score:
    """Return the line on queries that are not in the index: each half of the photos against the other half."""
    parts: dict[str, list[np.ndarray]] = {"plain": [], "smooth": []}
    for draw in range(DRAWS // 2):
        order = np.random.default_rng(draw).permutation(len(vectors))
        for new, old in (np.array_split(order, 2), np.array_split(order, 2)[::-1]):
            right, none = classes[new, None] == classes[old], np.full(len(new), -1)
            parts["plain"].append(precisions(vectors[new], vectors[old], none, right))
            queries, rows = averaged(vectors[old], vectors[new]), averaged(vectors[old])
            parts["smooth"].append(precisions(queries, rows, none, right))
    plain, smooth = (np.concatenate(part) for part in parts.values())
    return row("new photos, half of all in the index", len(vectors) // 2, plain, smooth, None)


def small_classes(vectors: np.ndarray, classes: np.ndarray, kept: int) -> list[Score]:
    """Return the lines on classes of which few photos are kept, and on the classes beside them."""
    found: dict[str, list[np.ndarray]] = {}
    nmis = []
    for draw in range(DRAWS):
        rng = np.random.default_rng([kept, draw])
        small = rng.permutation(classes.max() + 1)[::2]
        members = [np.flatnonzero(classes == one) for one in range(classes.max() + 1)]
        chosen = [rng.permutation(own)[:kept] if one in small else own for one, own in enumerate(members)]
        places = np.sort(np.concatenate(chosen))
        rows, labels = vectors[places], classes[places]
        smooth, is_small = averaged(rows), np.isin(labels, small)
        for name, some in (("small", np.flatnonzero(is_small)), ("other", np.flatnonzero(~is_small))):
            found.setdefault(f"{name} plain", []).append(leave_one_out(rows, labels, some))
            found.setdefault(f"{name} smooth", []).append(leave_one_out(smooth, labels, some))
        if draw < len(SEEDS):
            nmis.append((nmi(rows, labels), nmi(smooth, labels)))
    joined = {name: np.concatenate(parts) for name, parts in found.items()}
    both = statistics.mean(one for one, _ in nmis), statistics.mean(other for _, other in nmis)
    names = {"small": f"classes of {kept} photos", "other": f"the classes beside those of {kept}"}
    return [
        row(words, len(places), joined[f"{name} plain"], joined[f"{name} smooth"], both if name == "small" else None)
        for name, words in names.items()
    ]


def distractors(vectors: np.ndarray, classes: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Return vectors (count, d) as described at the top of this file."""
    rng = np.random.default_rng(seed)
    within = vectors - np.stack([vectors[classes == one].mean(axis=0) for one in classes])
    middle = vectors.mean(axis=0)

    def spread(rows: np.ndarray, n: int) -> np.ndarray:
        """Normal vectors with the covariance of the rows."""
        return np.matmul(rng.standard_normal((n, len(rows)), dtype=np.float32), rows / np.sqrt(len(rows)))

    found = []
    for start in range(0, count, 200 * MEMBERS):
        n = min(200 * MEMBERS, count - start)
        centres = middle + spread(vectors - middle, -(-n // MEMBERS))
        found.append(np.repeat(centres, MEMBERS, axis=0)[:n] + spread(within, n))
    rows = np.maximum(np.concatenate(found), 0).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def nearest_distances(rows: np.ndarray, queries: np.ndarray, own: int) -> list[float]:
    """Return the quartiles of the distances to the nearest row; own: 1 where the queries are rows themselves."""
    import faiss

    squares, _ = faiss.knn(np.ascontiguousarray(queries), rows, own + 1)
    return [round(float(q), 3) for q in np.percentile(np.sqrt(squares[:, own].clip(0)), [25, 50, 75])]


def make_index(folder: Path, vectors: np.ndarray, settings: dict[str, str]) -> None:
    """Make the large index of all vectors but the newest, and a file of these for the step that adds them."""
    from imgindex.storage.store import Store

    store = Store.create(str(folder / "large.imgindex"), settings)
    put(store, vectors[:-NEWER], 0)
    store.close()
    np.save(folder / "newer.npy", vectors[-NEWER:])


def put(store: Any, vectors: np.ndarray, first: int) -> None:
    """Record vectors of files that are not there."""
    from imgindex.storage.records import NewImage
    from imgindex.types import FoundFile

    with store.writing() as writer:
        for number, vector in enumerate(vectors, first):
            file = FoundFile(f"{store.path}-pictures/{number:06}.png", 1, 1)
            writer.put(NewImage(file, number.to_bytes(32, "big"), 32, 32, "PNG"), vector)
            if len(writer) == 4096:
                writer.commit()
        writer.commit()


def step(name: str, folder: Path) -> Score:
    """Do one step on the index in a folder, in this process, and return its seconds and memory."""
    from imgindex import ImageIndex
    from imgindex.search.upkeep import update_search_files

    with ImageIndex.open(folder / "large.imgindex") as index:
        path = index.paths()[7]

        def update() -> None:
            with index._store.writing() as writer:
                update_search_files(index._store, writer, smooth=True)

        if name == "update":
            put(index._store, np.load(folder / "newer.npy"), len(index))
        tasks: dict[str, Callable[[], Any]] = {
            "plain query": lambda: index.similar(path),
            "build": update,
            "query": lambda: index.similar(path, rerank=True),
            "update": update,
            "updated query": lambda: index.similar(path, rerank=True),
            "cluster": lambda: index.cluster(K, restarts=1),
            "smooth cluster": lambda: index.cluster(K, restarts=1, smooth=True),
        }
        before = time.process_time()
        seconds, _ = measure.timed(tasks[name])
        made = index.status()["smoothed"]
        return {
            "step": name,
            "images": len(index),
            "seconds": round(seconds, 3),
            "processor_seconds": round(time.process_time() - before, 3),
            "peak_mib": round(measure.peak_mib()),
            "file_mb": round(made["bytes"] / 1e6, 1) if made else "",
        }


def main() -> None:
    """Embed the photos, score both ways, and measure the steps on a large index."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="tar file of CLASS/FILE")
    parser.add_argument("--rows", type=int, default=ROWS, help="photos and distractors together")
    parser.add_argument("--out", metavar="FILE.json")
    parser.add_argument("--child", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(step(options.child, options.data)))
        return
    folder = Path(tempfile.mkdtemp(prefix="smoothing-"))
    try:
        vectors, classes = photo_vectors(options.photos, folder)
        far = distractors(vectors, classes, options.rows - len(vectors))
        facts = {
            "photos": len(vectors),
            "classes": int(classes.max()) + 1,
            "class_sizes": np.sort(np.bincount(classes)).tolist(),
            "nearest": {
                "photo to photo": nearest_distances(vectors, vectors, 1),
                "distractor to distractor": nearest_distances(far, far[:2000], 1),
                "photo to distractor": nearest_distances(far, vectors, 0),
            },
        }
        with threadpool_limits(1):  # so few rows are not worth a second thread, which waits on a busy machine
            lines = quality(vectors, classes)
        make_index(folder, np.concatenate([vectors, far]), settings_of(folder / "photos.imgindex"))
        script = str(Path(__file__).resolve())
        arguments = [script, "--photos", str(options.photos), "--data", str(folder), "--child"]
        costs = [measure.in_child([*arguments, name]) for name in STEPS]
        lines.append(among_distractors(folder, classes))
    finally:
        shutil.rmtree(folder)
    print(json.dumps([facts, costs], indent=1))
    measure.report("smoothing", lines, options.out, **facts, steps=costs)


def settings_of(index: Path) -> dict[str, str]:
    """Return the settings of an index that another one of the same recipe needs."""
    from imgindex.storage.store import Store

    store = Store(str(index))
    settings = {name: store.settings[name] for name in ("recipe", "recipe_digest", "dimension", "store")}
    store.close()
    return settings


if __name__ == "__main__":
    main()
