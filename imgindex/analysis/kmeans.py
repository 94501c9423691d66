"""K-means by FAISS on all rows, with Euclidean distance: vectors in, labels and their receipt out."""

from __future__ import annotations

import hashlib
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgindex.analysis import clusters
from imgindex.analysis.clusters import Doubles, Labels, Rows
from imgindex.errors import TooFewDistinctVectors, UsageError

if TYPE_CHECKING:
    from imgindex.types import Vectors

# Multiplications in one assignment of all rows (n × k × d) below which a whole run takes about a tenth of a second.
CHEAP = 5e8
MAX_RESTARTS = 10
TRIES = 2
CHUNK = 3
REPAIRS = 3


@dataclass(frozen=True, slots=True)
class KMeansResult:
    """The best restart of a k-means run.

    labels: int64 (n,), 0…k−1 by falling size (ties: the cluster of the earlier row first).
    centroids: float32 (k, d) and sizes (k), in the order of the labels; no size is 0.
    objective: the sum over all n rows of the squared Euclidean distance to their centroid, added up in float64.
    iterations: k-means steps on the vectors themselves in the restart kept (those in the sketch are not counted).
    restart_objectives: the objective of each restart, in the order in which they ran.
    converged: whether the restart kept stopped by itself, rather than at the limit of iterations.
    """

    labels: npt.NDArray[np.int64]
    centroids: Vectors
    sizes: tuple[int, ...]
    objective: float
    iterations: int
    restart_objectives: tuple[float, ...]
    converged: bool


@dataclass(frozen=True, slots=True)
class _Run:
    labels: Labels
    centroids: Vectors
    objective: float
    iterations: int
    converged: bool


def kmeans(
    vectors: Vectors,
    k: int,
    *,
    seed: int = 42,
    restarts: int | None = None,
    iterations: int = 300,
    init: Vectors | None = None,
) -> KMeansResult:
    """Cluster float32 vectors (n, d), which may be a memory map, into k parts; the same seed gives the same labels.

    A restart seeds by greedy k-means++ in a sketch of 256 principal directions, twice; splits and merges
    clusters there and keeps the best (see clusters.py); then FAISS's Lloyd steps run on all rows, never on a sample.
    With `init`, centroids (k, d), there is one run of plain Lloyd steps from them until nothing changes.

    restarts: None makes as many, from 1 to 10, as together take about a second: small collections deserve the best of
    many, and on large ones the search in the sketch already does what restarts would.
    iterations: the limit of Lloyd steps in a restart, 300 as in scikit-learn. Small problems and those with `init` go
    on until the labels stand still; large ones until three steps in a row lower the objective by less than 1e-5 of it.

    Beyond the vectors (copied once if they are not C-contiguous float32) memory is that of n × 256 numbers.
    Raises UsageError for arguments that mean nothing and for vectors with NaN or infinity, TooFewDistinctVectors if
    there are fewer distinct rows than k.
    """
    k = _whole("k", k)
    iterations = _whole("iterations", iterations)
    array = _as_matrix(vectors)
    rows = _measure(array)
    _need_distinct(array, k)
    n, d = array.shape
    small = n * k * d <= CHEAP
    if init is not None:
        runs = [_finish(rows, _as_init(init, k, d), iterations, exact=True)]
    else:
        count = _default_restarts(n * k * d) if restarts is None else _whole("restarts", restarts)
        sketch = clusters.principal_sketch(rows, _generator(seed, 0))
        runs = []
        for number in range(count):
            labels, _ = clusters.search_start(sketch, k, _generator(seed, number + 1), TRIES)
            runs.append(_finish(rows, clusters.means(rows, labels, k), iterations, exact=small))
    best = min(runs, key=lambda run: run.objective)
    return _in_order(best, tuple(run.objective for run in runs))


def _default_restarts(work: int) -> int:
    return max(1, min(MAX_RESTARTS, int(CHEAP / work)))


def _generator(seed: int, stream: int) -> np.random.Generator:
    try:
        return np.random.default_rng([operator.index(seed), stream])
    except (TypeError, ValueError):
        raise UsageError(f"seed must be a whole number, 0 or more, not {seed!r}") from None


def _whole(name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, (bool, np.bool_)):
        raise UsageError(f"{name} must be a whole number, 1 or more, not {value!r}")
    return number


def _as_matrix(vectors: Any) -> Vectors:
    shape = np.shape(vectors)
    if len(shape) != 2 or shape[1] == 0:
        raise UsageError(f"vectors must be a matrix, one row a vector, not of shape {shape}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(vectors, dtype=np.float32)


def _as_init(init: Any, k: int, d: int) -> Vectors:
    if np.shape(init) != (k, d):
        raise UsageError(f"init must have the shape {(k, d)}, not {np.shape(init)}")
    centroids = _as_matrix(init)
    if not np.isfinite(centroids).all():
        raise UsageError("init holds NaN or infinity")
    return centroids


def _measure(array: Vectors) -> Rows:
    """Find the mean of the rows and whether they lie far from 0, refusing rows that are not finite."""
    n, d = array.shape
    sums = np.zeros(d)
    squares = 0.0
    for part in clusters.blocks(array):
        sums += array[part].sum(axis=0, dtype=np.float64)
    if not np.isfinite(sums).all():
        bad = sum(int((~np.isfinite(array[part]).all(axis=1)).sum()) for part in clusters.blocks(array))
        raise UsageError(f"{bad} of {n} vectors hold NaN or infinity", hint="leave those rows out")
    mean = sums / max(n, 1)
    rows = Rows(array, mean.astype(np.float32), far=False)
    for _, block in rows.centred():
        squares += float(np.einsum("ij,ij->i", block, block).sum(dtype=np.float64))
    variance = squares / max(n, 1)
    if variance and not 1e-24 < variance < 1e24:
        raise UsageError("the vectors are too small or too large for float32 distances", hint="rescale them")
    return Rows(array, rows.mean, far=bool(mean @ mean > clusters.FAR_FROM_ORIGIN * variance))


def _need_distinct(array: Vectors, k: int) -> None:
    if k > len(array):
        raise TooFewDistinctVectors(f"only {len(array)} vectors for k={k}")
    seen: set[bytes] = set()
    for row in array:
        # Adding 0 makes -0.0, which is no other number, the same bytes as 0.0.
        seen.add(hashlib.blake2b((row + 0).tobytes(), digest_size=16).digest())
        if len(seen) == k:
            return
    raise TooFewDistinctVectors(f"only {len(seen)} distinct vectors for k={k}, among {len(array)}")


def _finish(rows: Rows, centroids: Vectors, iterations: int, *, exact: bool) -> _Run:
    """Run Lloyd from these centroids, and again after each repair of empty clusters."""
    done = 0
    for attempt in range(REPAIRS + 1):
        refine = _lloyd if exact else _lloyd_with_shortcuts
        centroids, steps, converged = refine(rows, centroids, max(1, iterations - done))
        done += steps
        labels, _ = clusters.assign(rows, centroids)
        if np.bincount(labels, minlength=len(centroids)).all():
            break
        centroids, labels = _fill_empty(rows.vectors, centroids, labels)
        if attempt == REPAIRS or done >= iterations:
            break
    objective = float(_distances(rows.vectors, centroids, labels).sum())
    return _Run(labels, centroids, objective, min(done, iterations), converged)


def _lloyd(rows: Rows, centroids: Vectors, iterations: int) -> tuple[Vectors, int, bool]:
    """Run FAISS in chunks until one leaves every bit of the centroids as it was."""
    done = 0
    while done < iterations:
        steps = min(CHUNK, iterations - done)
        trained, _ = clusters.train(rows, centroids, steps)
        done += steps
        if np.array_equal(trained, centroids):
            return trained, done, True
        centroids = trained
    return centroids, done, False


def _lloyd_with_shortcuts(rows: Rows, centroids: Vectors, iterations: int) -> tuple[Vectors, int, bool]:
    """Run FAISS in chunks until one hardly lowers the objective, and go on between them in the centroids' own span.

    For centroids in a subspace, distances within it rank them as whole distances do. So k-means in the span of k ≤ 256
    centroids is k-means, but for what the new ones hold outside it; it never raises the objective, and takes ten steps
    in the time of one: 12 steps on the whole vectors reach what otherwise took 120.
    """
    done = 0
    while done < iterations:
        steps = min(CHUNK, iterations - done)
        centroids, objectives = clusters.train(rows, centroids, steps)
        done += steps
        # With k = n, FAISS copies the rows and reports a single step.
        if len(objectives) < steps or (steps > 1 and clusters.stalled(objectives[0], objectives[-1])):
            return centroids, done, True
        if done < iterations and len(centroids) <= clusters.SKETCH < centroids.shape[1]:
            offsets: Vectors = centroids - rows.mean
            basis = clusters.orthonormal(offsets.T)
            sketch = Rows.plain(clusters.project(rows, basis))
            found = clusters.descend(sketch, offsets @ basis)
            centroids = clusters.means(rows, clusters.assign(sketch, found)[0], len(centroids))
    return centroids, done, False


def _distances(array: Vectors, centroids: Vectors, labels: Labels) -> Doubles:
    """Return each row's squared distance to its centroid (n,), without the rounding of BLAS's short cut."""
    result = np.empty(len(array))
    for part in clusters.blocks(array):
        offsets = array[part].astype(np.float64) - centroids[labels[part]]
        result[part] = np.einsum("ij,ij->i", offsets, offsets)
    return result


def _fill_empty(array: Vectors, centroids: Vectors, labels: Labels) -> tuple[Vectors, Labels]:
    """Move each empty cluster's centroid to the row farthest from its own, and the rows that are now nearer with it.

    Ends because every move lowers the exact objective: with k distinct rows and a cluster empty, some row of a cluster
    of several lies off its centroid.
    """
    centroids, labels = centroids.copy(), labels.copy()
    distances = _distances(array, centroids, labels)
    while True:
        sizes = np.bincount(labels, minlength=len(centroids))
        if sizes.all():
            return centroids, labels
        empty = int(sizes.argmin())
        farthest = int(np.where(sizes[labels] > 1, distances, -1).argmax())
        centroids[empty] = array[farthest]
        moved = _distances(array, centroids, np.full(len(array), empty))
        nearer = moved < distances
        labels[nearer], distances[nearer] = empty, moved[nearer]


def _in_order(run: _Run, objectives: tuple[float, ...]) -> KMeansResult:
    _, first, sizes = np.unique(run.labels, return_index=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return KMeansResult(
        labels=rank[run.labels],
        centroids=np.ascontiguousarray(run.centroids[order]),
        sizes=tuple(int(size) for size in sizes[order]),
        objective=run.objective,
        iterations=run.iterations,
        restart_objectives=objectives,
        converged=run.converged,
    )
