"""From the stored vectors to a clustering with its receipt."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from imgindex._version import VERSION
from imgindex.analysis import capacity
from imgindex.analysis.anchors import starts
from imgindex.analysis.choosing import auto_range, choose, curve
from imgindex.analysis.fit import fit
from imgindex.analysis.kmeans import KMeansResult, kmeans
from imgindex.analysis.points import Points
from imgindex.answers.clusterings import Clustering, Form, KScore
from imgindex.clustering.keeping import OF_VECTORS, keep
from imgindex.clustering.lasting import Wish
from imgindex.errors import TooFewDistinctVectors, UsageError
from imgindex.selecting import select
from imgindex.storage.clusterings import Members
from imgindex.storage.store import Store
from imgindex.types import OnProgress, Progress, Vectors

# Multiplications in one assignment of all rows from which on a GPU gains more than torch's import and start cost:
# from there on a processor takes about a second for it, and a run makes ten or more.
WORTH_A_GPU = 5e10


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a clustering; see `ImageIndex.cluster`.

    anchors: by name, vectors (m, d) of examples.
    """

    k: int | range | None
    seed: int = 42
    device: str = "auto"
    restarts: int | None = None
    iterations: int | None = None
    init: Vectors | None = None
    anchors: Mapping[str, Vectors] = field(default_factory=dict)
    balanced: bool = False
    max_size: int | None = None
    form: Form = field(default_factory=Form)
    where: str | None = None

    def __post_init__(self) -> None:
        if self.init is not None and self.anchors:
            raise UsageError("a clustering begins at centroids or at anchors, not at both")
        if self.balanced and self.max_size is not None:
            raise UsageError("clusters are balanced or have a largest size, not both")
        if self.max_size is not None and self.max_size < 1:
            raise UsageError(f"a cluster of at most {self.max_size} images is none")

    @property
    def options(self) -> dict[str, Any]:
        """What differs from the defaults, for the receipt."""
        told: dict[str, Any] = {"restarts": self.restarts, "iterations": self.iterations, "max_size": self.max_size}
        told |= {"balanced": self.balanced or None, "where": self.where, "anchors": sorted(self.anchors) or None}
        told["init"] = None if self.init is None else "given"
        return {name: value for name, value in told.items() if value is not None}


def cluster(
    store: Store,
    request: Request,
    *,
    wait: Callable[[], bool] = lambda: False,
    on_progress: OnProgress = lambda progress: None,
) -> Clustering:
    """Cluster images that are shown, from one state of the index, read a block at a time from the segments.

    The clustering is kept in the index where that can be written to; where not, it says why.
    Raises IndexDamaged, DeviceUnavailable, TooFewDistinctVectors or UsageError.
    """
    started = time.perf_counter()
    with store.reading():
        only = select(store, request.where)
        blocks = store.blocks(only)
        points = Points.stored(blocks, store.segments.dimension)
        table = store.catalogue.places()
        if only is not None:
            table = table[np.isin(table[:, 0], only)]
        members = Members(table[:, 0], np.empty(0, np.int64), table[:, 3])
        paths = list(store.catalogue.image_paths(None if only is None else only.tolist()).values())
    if not paths and only is None:
        raise TooFewDistinctVectors("the index holds no images", hint="add some with `imgindex add FOLDER`")
    if not paths:
        raise TooFewDistinctVectors(
            f"no image fulfils {request.where!r}", hint="try conditions with `imgindex list --where`"
        )
    scores, k = _choose(points, request, on_progress)
    points = _on_device(points, request.device, len(points) * k * points.dimension)
    result = _run(points, k, request)
    told = set(request.form.extras) & OF_VECTORS
    found = Clustering(
        k=k,
        seed=request.seed,
        ids=members.ids,
        paths=paths,
        labels=result.labels,
        centroids=result.centroids,
        sizes=result.sizes,
        objective=result.objective,
        iterations=result.iterations,
        restarts=len(result.restart_objectives),
        trained_on=len(paths),
        seconds=round(time.perf_counter() - started, 3),
        curve=scores,
        restart_objectives=result.restart_objectives,
        converged=result.converged,
        recipe_digest=store.settings.get("recipe_digest", ""),
        versions=_versions(),
        options=request.options,
        form=request.form,
        fit=fit(points, result.labels, result.centroids, silhouettes="silhouette" in told) if told else None,
    )
    anchors = list(request.anchors)
    named = {label: anchors[start] for label, start in enumerate(result.starts) if start < len(anchors)}
    return keep(store, found, Wish(members.crcs, named), wait=wait)


def _choose(points: Points, request: Request, on_progress: OnProgress) -> tuple[tuple[KScore, ...], int]:
    """Return the number of clusters and, where it was not given, how well each fits that was tried."""
    if isinstance(request.k, int):
        return (), request.k
    if request.k is None and request.anchors:
        return (), len(request.anchors)
    ks = request.k or auto_range(len(points))
    scores = []
    for score in curve(points, ks, seed=request.seed):
        scores.append(score)
        on_progress(Progress("choosing k", len(scores), len(ks), unit="clusterings"))
    return tuple(scores), choose(scores)


def _run(points: Points, k: int, request: Request) -> KMeansResult:
    limits: dict[str, Any] = {"restarts": request.restarts, "iterations": request.iterations, "init": request.init}
    if request.anchors:
        limits["init"] = starts(points, list(request.anchors.values()), k, seed=request.seed)
    given = {name: value for name, value in limits.items() if value is not None}
    result = kmeans(points, k, seed=request.seed, **given)
    if request.balanced or request.max_size is not None:
        result = capacity.limit(points, result, most=request.max_size)
    return result


def _on_device(points: Points, device: str, work: float) -> Points:
    """Have the nearest centroids found by torch on the device named; auto takes a GPU for large work alone."""
    if device == "cpu" or (device == "auto" and work < WORTH_A_GPU):
        return points
    from imgindex.analysis.torch_nearest import nearest_on
    from imgindex.embedding.device import choose_device

    chosen = choose_device(device)
    if device == "auto" and chosen.type != "cuda":
        return points
    return replace(points, nearest=nearest_on(chosen))


def _versions() -> dict[str, str]:
    import platform

    import faiss

    return {
        "imgindex": VERSION,
        "faiss": faiss.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
