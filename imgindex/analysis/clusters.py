"""Finds where k-means should begin: seeds, then splits and merges clusters, in a small sketch of the vectors.

Everything here works on a *sketch*: the rows, centred, on at most 256 directions that hold most of their variance.
A k-means step there costs a sixteenth of one on 4096 numbers, so there is time to search.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from imgindex.types import Vectors

Labels = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

SKETCH = 256
# Rows that choose the directions of the sketch. All rows are projected, and all rows are clustered.
SAMPLE = 8192
BLOCK_BYTES = 32 << 20
# The squared length of the mean, in variances, above which float32 products of raw rows lose the small differences.
FAR_FROM_ORIGIN = 10.0


@dataclass(frozen=True, slots=True)
class Rows:
    """The vectors float32 (n, d), read in place, with their mean float32 (d,); `far` when they must be centred."""

    vectors: Vectors
    mean: Vectors
    far: bool

    @classmethod
    def plain(cls, vectors: Vectors) -> Rows:
        """Take vectors that are centred already."""
        return cls(vectors, np.zeros(vectors.shape[1], np.float32), far=False)

    def centred(self) -> Iterator[tuple[slice, Vectors]]:
        """Give every block of rows minus the mean, so that no more than a block is ever copied."""
        for part in blocks(self.vectors):
            yield part, self.vectors[part] - self.mean


def blocks(vectors: Vectors) -> Iterator[slice]:
    """Cut n rows into slices of at most 4,096 rows and about 32 MB."""
    n, d = vectors.shape
    step = max(1, min(4096, BLOCK_BYTES // (4 * d)))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def train(rows: Rows, centroids: Vectors, iterations: int) -> tuple[Vectors, list[float]]:
    """Run FAISS's k-means from centroids (k, d) on all rows, and return the new ones.

    The numbers are FAISS's objective before each update: float32 sums, good to about 1e-6, for stopping only.
    """
    n, d = rows.vectors.shape
    k = len(centroids)
    clustering = faiss.Clustering(d, k)
    clustering.niter = iterations
    clustering.min_points_per_centroid = 1
    clustering.max_points_per_centroid = -(-n // k)
    start = centroids - rows.mean if rows.far else centroids
    faiss.copy_array_to_vector(np.ascontiguousarray(start, np.float32).ravel(), clustering.centroids)
    if rows.far:
        clustering.decode_block_size = max(1, BLOCK_BYTES // (4 * d))
        codes = rows.vectors.view(np.uint8).reshape(n, 4 * d)
        clustering.train_encoded(codes, _centring_codec(rows.mean), faiss.IndexFlatL2(d))
    else:
        clustering.train(rows.vectors, faiss.IndexFlatL2(d))
    trained: Vectors = faiss.vector_to_array(clustering.centroids).reshape(k, d)
    if rows.far:
        trained = trained + rows.mean
    steps: Any = clustering.iteration_stats
    return trained, [float(steps.at(i).obj) for i in range(steps.size())]


def _centring_codec(mean: Vectors) -> Any:
    # FAISS decodes by undoing the transform, and undoing it adds its mean.
    centring = faiss.CenteringTransform(len(mean))
    faiss.copy_array_to_vector(-mean, centring.mean)
    centring.is_trained = True
    # FAISS's Python classes keep what they are made of alive.
    return faiss.IndexPreTransform(centring, faiss.IndexFlatL2(len(mean)))


def assign(rows: Rows, centroids: Vectors) -> tuple[Labels, Vectors]:
    """Return the nearest centroid of each row, and its squared distance as FAISS computes it, both (n,)."""
    index = faiss.IndexFlatL2(centroids.shape[1])
    if not rows.far:
        index.add(centroids)
        distances, labels = index.search(rows.vectors, 1)
        return labels[:, 0], distances[:, 0]
    index.add(centroids - rows.mean)
    answers = [index.search(block, 1) for _, block in rows.centred()]
    return np.concatenate([a[1][:, 0] for a in answers]), np.concatenate([a[0][:, 0] for a in answers])


def means(rows: Rows, labels: Labels, k: int) -> Vectors:
    """Return the mean of each cluster, float32 (k, d); that of an empty one is the mean of all rows."""
    sums = np.zeros((k, rows.vectors.shape[1]))
    for part, block in rows.centred():
        # A product with the 0/1 membership matrix runs at BLAS speed; adding row by row in numpy is 4 times slower.
        present, local = np.unique(labels[part], return_inverse=True)
        membership = np.zeros((len(present), len(block)), np.float32)
        membership[local, np.arange(len(block))] = 1
        sums[present] += membership @ block
    sizes = np.maximum(np.bincount(labels, minlength=k), 1)
    result: Vectors = (sums / sizes[:, None] + rows.mean).astype(np.float32)
    return result


def orthonormal(directions: npt.NDArray[Any]) -> Vectors:
    """Return an orthonormal basis float32 (d, m' ≤ m) of the columns of directions (d, m), dropping dependent ones."""
    columns = directions.astype(np.float64)
    values, rotation = np.linalg.eigh(columns.T @ columns)
    kept = values > 1e-12 * values[-1]
    if values[-1] <= 0:
        return np.eye(len(columns), 1, dtype=np.float32)
    basis: Vectors = (columns @ (rotation[:, kept] / np.sqrt(values[kept]))).astype(np.float32)
    return basis


def project(rows: Rows, basis: Vectors) -> Vectors:
    """Return the centred rows on a basis (d, m), float32 (n, m)."""
    sketch = np.empty((len(rows.vectors), basis.shape[1]), np.float32)
    for part, block in rows.centred():
        np.matmul(block, basis, out=sketch[part])
    return sketch


def principal_sketch(rows: Rows, rng: np.random.Generator) -> Vectors:
    """Return the centred rows on at most 256 directions that hold most of their variance, float32 (n, ≤ 256).

    A Gaussian sketch with one power iteration (Halko, Martinsson & Tropp 2011) on at least 8,192 rows, evenly taken.
    The best subspace keeps the k-means objective where a random one only keeps distances (Cohen et al. 2015).
    """
    d = rows.vectors.shape[1]
    if d <= SKETCH:
        return rows.vectors - rows.mean
    gauss = rng.standard_normal((d, SKETCH), dtype=np.float32)
    directions = np.zeros((d, SKETCH), np.float32)
    sample = Rows(rows.vectors[:: max(1, len(rows.vectors) // SAMPLE)], rows.mean, rows.far)
    for _, block in sample.centred():
        directions += block.T @ (block @ gauss)
    return project(rows, orthonormal(directions))


def greedy_seeds(sketch: Vectors, k: int, rng: np.random.Generator) -> Labels:
    """Return the indices (k,) of the rows that greedy k-means++ chooses.

    Arthur & Vassilvitskii 2007, section 4: the best of 2 + ln k candidates a step, as scikit-learn does.
    """
    n = len(sketch)
    lengths = np.einsum("ij,ij->i", sketch, sketch)
    trials = 2 + int(np.log(k))
    chosen = np.empty(k, np.int64)
    nearest = np.full(n, np.inf, np.float32)
    candidates = rng.integers(n, size=1)
    for step in range(k):
        if step:
            mass = np.cumsum(nearest, dtype=np.float64)
            candidates = np.searchsorted(mass, rng.random(trials) * mass[-1], side="right").clip(max=n - 1)
        sums = lengths + lengths[candidates, None]
        distances = sums - 2 * (sketch[candidates] @ sketch.T)
        # What is left between equal rows is rounding; drawing by it would seed one point twice.
        distances[distances < 1e-6 * sums] = 0
        np.minimum(distances, nearest, out=distances)
        best = int(distances.sum(axis=1, dtype=np.float64).argmin())
        nearest, chosen[step] = distances[best], candidates[best]
    return chosen


def search_start(sketch: Vectors, k: int, rng: np.random.Generator, tries: int) -> tuple[Labels, float]:
    """Return the best labels (n,) that some greedy seedings find in the sketch, with their objective there."""
    rows = Rows.plain(sketch)
    best_labels, best = np.zeros(len(sketch), np.int64), np.inf
    for _ in range(tries):
        centroids, _ = train(rows, sketch[greedy_seeds(sketch, k, rng)], 6)
        centroids = split_and_merge(rows, centroids)
        labels, distances = assign(rows, descend(rows, centroids))
        objective = float(distances.sum(dtype=np.float64))
        if objective < best:
            best_labels, best = labels, objective
    return best_labels, best


def descend(rows: Rows, centroids: Vectors, iterations: int = 50) -> Vectors:
    """Run k-means until ten iterations lower the objective by less than 1e-5 of it."""
    last = float("inf")
    for _ in range(0, iterations, 10):
        centroids, objectives = train(rows, centroids, 10)
        if stalled(last, objectives[-1]):
            break
        last = objectives[-1]
    return centroids


def stalled(before: float, after: float) -> bool:
    """Whether the objective fell by less than 1e-5 of it."""
    return before - after <= 1e-5 * after


def split_and_merge(rows: Rows, centroids: Vectors, rounds: int = 8) -> Vectors:
    """Merge the clusters that cost least to merge and split those that gain most, while the objective falls.

    K-means cannot carry a centroid across a gap; this can, and needs no luck (Kaukoranta, Fränti & Nevalainen 1998).
    """
    labels, distances = assign(rows, centroids)
    best = float(distances.sum(dtype=np.float64))
    for _ in range(rounds):
        moved = _exchange(rows.vectors, centroids, labels)
        if moved is None:
            break
        trial, _ = train(rows, moved, 4)
        trial_labels, distances = assign(rows, trial)
        objective = float(distances.sum(dtype=np.float64))
        if objective >= best * (1 - 1e-4):
            break
        centroids, labels, best = trial, trial_labels, objective
    return centroids


def _exchange(sketch: Vectors, centroids: Vectors, labels: Labels) -> Vectors | None:
    k = len(centroids)
    sizes = np.bincount(labels, minlength=k).astype(np.float64)
    order = np.argsort(labels, kind="stable")
    members = np.split(order, np.cumsum(sizes.astype(np.int64))[:-1])
    halves = [_halve(sketch[rows]) for rows in members]
    by_gain = sorted(range(k), key=lambda c: -halves[c].gain)
    moved, used = centroids.copy(), np.zeros(k, bool)
    for cost, keep, free in _merges(centroids, sizes):
        if used[keep] or used[free]:
            continue
        split = next((c for c in by_gain if not used[c] and c not in (keep, free)), None)
        if split is None or halves[split].gain <= cost:
            break
        weights = sizes[[keep, free]] / max(sizes[keep] + sizes[free], 1)
        moved[keep] = weights @ centroids[[keep, free]]
        moved[free], moved[split] = halves[split].means
        used[[keep, free, split]] = True
    return moved if used.any() else None


def _merges(centroids: Vectors, sizes: Doubles) -> list[tuple[float, int, int]]:
    """List (what the objective rises by, cluster, cluster) for near pairs, cheapest first: Ward's formula."""
    k = len(centroids)
    squared, near = faiss.knn(centroids, centroids, min(k, 9))
    pairs = {
        (min(i, int(j)), max(i, int(j))): float(sizes[i] * sizes[j] / max(sizes[i] + sizes[j], 1) * max(gap, 0))
        for i in range(k)
        for j, gap in zip(near[i], squared[i], strict=True)
        if i != j
    }
    return sorted((cost, i, j) for (i, j), cost in pairs.items())


@dataclass(frozen=True, slots=True)
class _Halves:
    """What the objective falls by when a cluster is cut in two, and the means (2, m) of the parts."""

    gain: float
    means: Vectors


def _halve(members: Vectors) -> _Halves:
    centre = members.mean(axis=0) if len(members) else np.zeros(members.shape[1], np.float32)
    found = _Halves(0.0, np.stack([centre, centre]))
    if len(members) < 2:
        return found
    offsets = members - centre
    direction = offsets[np.einsum("ij,ij->i", offsets, offsets).argmax()]
    for _ in range(3):
        direction = offsets.T @ (offsets @ direction)
        direction /= max(float(np.linalg.norm(direction)), 1e-30)
    side = offsets @ direction > 0
    for _ in range(8):
        right = int(side.sum())
        left = len(side) - right
        if not left or not right:
            break
        mean_right = side.astype(np.float32) @ offsets / np.float32(right)
        mean_left = mean_right * np.float32(-right / left)
        squares = float(mean_right @ mean_right), float(mean_left @ mean_left)
        found = _Halves(right * squares[0] + left * squares[1], centre + np.stack([mean_right, mean_left]))
        now = offsets @ (mean_right - mean_left) > (squares[0] - squares[1]) / 2
        if np.array_equal(now, side):
            break
        side = now
    return found
