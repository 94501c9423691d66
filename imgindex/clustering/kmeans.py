"""K-means on all rows, with Euclidean distance: vectors in, labels and centroids out."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgindex.clustering import seeding
from imgindex.clustering.lloyd import TOLERANCE, Lloyd, distances, fill_empty
from imgindex.errors import UsageError
from imgindex.vectors.rows import Doubles, Labels, VectorRows, centre_far_rows, require_distinct

if TYPE_CHECKING:
    from imgindex.types import Vectors

# Makes clusters of all points: `Lloyd`, or one whose steps other machines compute.
MakeClusters = Callable[[VectorRows, int], Lloyd]
# Multiplications (n × k × d) in one assignment of all rows, below which one thread goes on until no label changes.
CHEAP = 2.5e8
# The same in the assignments of all restarts together, which then take up to half a second.
RESTARTED = 6e7
MAX_RESTARTS, MAX_ITERATIONS = 10, 300
# Seedings whose better result a restart of a larger problem begins from; a cheap one has restarts for that.
TRIES = 2
REPAIRS = 3
# A start is searched among this many rows for each cluster, and at least so many rows in all; where there are more
# than twice as many, they are taken evenly.
ROWS_A_CLUSTER = 64
SEARCHED_ROWS = 1 << 16
# The limits of Lloyd's steps among those rows: further steps fit the sample better, but not the whole.
SAMPLE_STEPS, SAMPLE_TOLERANCE = 20, 1e-3
# Multiplications above which an assignment takes a second, and the share of the objective that it must gain then.
DEAR, DEAR_TOLERANCE = 5e10, 1e-4
# Numbers in the sketch of all rows that is made in the span of the centroids: 128 MB.
SPAN_NUMBERS = 1 << 25


@dataclass(frozen=True, slots=True)
class KMeansResult:
    """The best restart of a k-means run.

    labels: int64 (n,), 0…k−1 by falling size (ties: the cluster of the earlier row first).
    centroids: float32 (k, d) and sizes (k), in the order of the labels; no size is 0.
    objective: the sum over all n rows of the squared Euclidean distance to their centroid, in float64.
    iterations: k-means steps on the vectors themselves in the best restart (those in the sketch are not counted).
    restart_objectives: the objective of each restart, in the order in which they ran.
    converged: whether the best restart stopped by itself, rather than at the limit of iterations.
    init_rows: for each label the row of `init` that its centroid started as; meaningless without `init`.
    """

    labels: npt.NDArray[np.int64]
    centroids: Vectors
    sizes: tuple[int, ...]
    objective: float
    iterations: int
    restart_objectives: tuple[float, ...]
    converged: bool
    init_rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """The result of one restart. Its labels are in no order; its centroids are less the origin of the points."""

    labels: Labels
    centroids: Vectors
    objective: float
    iterations: int
    converged: bool


def kmeans(
    vectors: Vectors | VectorRows,
    k: int,
    *,
    seed: int = 42,
    restarts: int | None = None,
    iterations: int | None = None,
    init: Vectors | None = None,
    make_clusters: MakeClusters = Lloyd,
) -> KMeansResult:
    """Cluster vectors (n, d), in memory, mapped or in blocks, into k parts; the same seed gives the same labels.

    A restart seeds by greedy k-means++ in a sketch of principal directions, and splits and merges clusters there (see
    seeding.py); a larger problem does so twice and takes the better result. Then Lloyd's steps run on all rows, never
    on a sample. With `init`, centroids (k, d), there is one run of plain Lloyd steps from them until nothing changes.

    restarts: None makes up to 10, as many as together take a fraction of a second, until two agree on the objective:
    a small collection gains by the best of many, and for a large one the search in the sketch does what restarts would.
    iterations: the limit of Lloyd steps in a restart; None: 300, as in scikit-learn. Small problems and those with
    `init` go on until no label changes; large ones until a step lowers the objective by less than 1e-5 of it, or 1e-4
    where a step takes a second.

    make_clusters: makes the clusters of all rows; those of a sample are always made here.

    Raises UsageError for impossible arguments and for vectors with NaN or infinity, TooFewDistinctVectors if there are
    fewer distinct rows than k.
    """
    k = _whole("k", k)
    iterations = MAX_ITERATIONS if iterations is None else _whole("iterations", iterations)
    points, mean = centre_far_rows(vectors if isinstance(vectors, VectorRows) else VectorRows.of(vectors))
    require_distinct(points, k)
    work = len(points) * k * points.dimension
    with _one_thread() if work <= CHEAP else nullcontext():
        runs = _runs(points, mean, k, seed, restarts, iterations, init, make_clusters)
    best = min(runs, key=lambda run: run.objective)
    return in_order(best, points.origin, tuple(run.objective for run in runs))


def _runs(
    points: VectorRows,
    mean: Doubles,
    k: int,
    seed: int,
    restarts: int | None,
    iterations: int,
    init: Vectors | None,
    make_clusters: MakeClusters,
) -> list[Run]:
    """Return the result of each restart; the parameters are those of `kmeans`."""
    work = len(points) * k * points.dimension
    if init is not None:
        clusters = make_clusters(points, k)
        clusters.centroids = _as_init(init, k, points.dimension) - points.origin
        return [_finish(clusters, iterations, Lloyd.run)]
    count = max(1, min(MAX_RESTARTS, int(RESTARTED / work))) if restarts is None else _whole("restarts", restarts)
    runs: list[Run] = []
    descend = partial(_descend, mean=mean, work=work)
    for clusters in _starts(points, mean, k, seed, count, make_clusters):
        runs.append(_finish(clusters, iterations, descend))
        if restarts is None and _agree(runs):
            break
    return runs


def _one_thread() -> AbstractContextManager[Any]:
    """Let numpy's products use one thread within the block, as FAISS does for work of this size.

    Small products gain little by threads, and wait long for them where other programs use the cores.
    """
    limit: AbstractContextManager[Any] = _thread_pools().limit(limits=1, user_api="blas")
    return limit


@lru_cache(maxsize=1)
def _thread_pools() -> Any:
    # Imported late: it looks through all libraries that are loaded, for some milliseconds.
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _agree(runs: list[Run]) -> bool:
    """Return whether the two best restarts have the same objective: a third would hardly find a better one."""
    best = sorted(run.objective for run in runs)[:2]
    return len(best) == 2 and best[1] - best[0] <= 1e-4 * best[1]


def _starts(
    points: VectorRows, mean: Doubles, k: int, seed: int, count: int, make_clusters: MakeClusters
) -> Iterator[Lloyd]:
    """Yield clusters to start from, found in a sketch of all points, or of a sample where there are very many."""
    sample = points.sample_evenly(max(SEARCHED_ROWS, ROWS_A_CLUSTER * k))
    width = seeding.sketch_width(len(sample), k)
    sketch = seeding.principal_sketch(sample, mean, width, _generator(seed, 0))
    is_whole = len(sample) == len(points)
    tries = 1 if len(points) * k * points.dimension <= CHEAP else TRIES
    for number in range(count):
        clusters = make_clusters(points, k) if is_whole else Lloyd(sample, k)
        clusters.adopt(seeding.search_start(sketch, k, _generator(seed, number + 1), tries))
        if not is_whole:
            clusters.run(clusters.steps + SAMPLE_STEPS, SAMPLE_TOLERANCE)
            whole = make_clusters(points, k)
            whole.centroids, clusters = clusters.centroids, whole
        yield clusters


def _descend(clusters: Lloyd, limit: int, *, mean: Doubles, work: int) -> bool:
    """Make Lloyd's steps while they are worth their time, in the span of the centroids where that is small.

    Returns whether they came to an end by themselves.
    """
    k, d = clusters.centroids.shape
    tolerance = TOLERANCE if work < DEAR else DEAR_TOLERANCE
    if 2 * k <= d and len(clusters.points) * k <= SPAN_NUMBERS:
        settled = seeding.settle_in_span(clusters, mean, limit, tolerance)
    else:
        settled = clusters.run(limit, tolerance)
    return clusters.run(limit) if work <= CHEAP else settled


def _finish(clusters: Lloyd, limit: int, descend: Callable[[Lloyd, int], bool]) -> Run:
    """Make Lloyd's steps, and again after each repair of empty clusters."""
    for attempt in range(REPAIRS + 1):
        converged = descend(clusters, limit)
        labels, centroids = clusters.labels, clusters.centroids
        if clusters.sizes.all():
            return Run(labels, centroids, clusters.exact_objective(), clusters.steps, converged)
        centroids, labels = fill_empty(clusters.points, centroids, labels)
        if attempt == REPAIRS or clusters.steps >= limit:
            break
        clusters.centroids = centroids
    objective = float(distances(clusters.points, centroids, labels).sum())
    return Run(labels, centroids, objective, clusters.steps, converged)


def in_order(run: Run, origin: Vectors, objectives: tuple[float, ...]) -> KMeansResult:
    """Return the result of a run with labels by falling size, ties by the first row; no cluster may be empty."""
    _, first, sizes = np.unique(run.labels, return_index=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return KMeansResult(
        labels=rank[run.labels],
        centroids=run.centroids[order] + origin,
        sizes=tuple(int(size) for size in sizes[order]),
        objective=run.objective,
        iterations=run.iterations,
        restart_objectives=objectives,
        converged=run.converged,
        init_rows=tuple(order.tolist()),
    )


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


def _as_init(init: Any, k: int, d: int) -> Vectors:
    if np.shape(init) != (k, d):
        raise UsageError(f"init must have the shape {(k, d)}, not {np.shape(init)}")
    centroids = np.array(init, dtype=np.float32)
    if not np.isfinite(centroids).all():
        raise UsageError("init holds NaN or infinity")
    return centroids
