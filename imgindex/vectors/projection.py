"""Projects vectors to the plane, for maps: by principal components, or by the libraries of UMAP and t-SNE."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from imgindex.errors import ExtraMissing, UsageError
from imgindex.types import Vectors
from imgindex.vectors.pca import principal_directions, project
from imgindex.vectors.rows import VectorRows, centre_far_rows

Rows = npt.NDArray[np.int32]

# Components that UMAP and t-SNE start from: the rest is mostly noise, and distances in 50 numbers cost a tenth.
REDUCED = 50
# See `principal_directions`: the two of a map settle within a few passes.
SPARE, PASSES = 14, 12
# t-SNE of this many points takes three minutes on two cores; UMAP takes as long for five times as many.
MOST_TSNE = 20_000
# With fewer points UMAP and t-SNE fail, or draw chance: they need neighbours that have neighbours of their own.
FEW = 10
# Up to so many points UMAP is given each one's nearest neighbours. To find them by itself, it compiles code for six
# seconds and more.
MOST_COMPARED = 50_000
# The libraries of UMAP and t-SNE take seeds of 32 bits.
SEEDS = 2**32


def project_to_plane(points: VectorRows, method: str = "pca", *, seed: int = 42) -> Vectors:
    """Return coordinates float32 (n, 2) of the points: `pca`, `umap` or `tsne`; the same seed gives the same ones.

    umap and tsne start from the first 50 principal components. Fewer than 10 points are always projected by pca.
    Raises UsageError for another method, a negative seed, or t-SNE of more than 20,000 points; ExtraMissing without
    umap-learn.
    """
    check_method(method)
    if seed < 0:
        raise UsageError(f"the seed of a map is {seed}", hint="give 0 or more")
    if method == "tsne" and len(points) > MOST_TSNE:
        raise UsageError(
            f"t-SNE of {len(points):,} images takes too long; it is limited to {MOST_TSNE:,}",
            hint="choose umap or pca",
        )
    if method == "pca" or len(points) < FEW:
        return principal_components(points, 2, seed=seed)
    reduced = principal_components(points, REDUCED, seed=seed)
    seed %= SEEDS
    with warnings.catch_warnings():
        # The libraries warn of their internals; a user who asks for a map cannot act on that.
        warnings.simplefilter("ignore")
        made = METHODS[method](reduced, seed)
    return np.ascontiguousarray(made, dtype=np.float32)


def check_method(method: str) -> None:
    """Raise UsageError for an unknown method, ExtraMissing where its library is not installed: before any work."""
    if method not in METHODS:
        raise UsageError(f"a map cannot be made by {method!r}", hint=f"choose one of: {', '.join(METHODS)}")
    if method == "umap" and not _has_umap():
        raise ExtraMissing(
            "a UMAP map needs umap-learn", hint="install it with `pip install umap-learn`, or choose pca or tsne"
        )


def _has_umap() -> bool:
    try:
        return importlib.util.find_spec("umap") is not None
    except (ImportError, ValueError):
        return False


def principal_components(points: VectorRows, count: int, *, seed: int = 42) -> Vectors:
    """Return the first principal components of the points, float32 (n, count); zeros where there are fewer."""
    found = np.zeros((len(points), count), np.float32)
    if len(points) < 2:
        return found
    points, mean = centre_far_rows(points)
    rng = np.random.default_rng(seed)
    basis = principal_directions(points, mean, count, rng=rng, spare=SPARE, passes=PASSES, settle=2).directions
    found[:, : basis.shape[1]] = project(points, mean, basis)
    return found


def _umap(reduced: Vectors, seed: int) -> Vectors:
    from umap import UMAP

    neighbours = min(15, len(reduced) - 1)
    # A spectral start needs more rows than directions.
    start = "spectral" if len(reduced) > 4 * neighbours else "pca"
    known = {"precomputed_knn": _neighbours(reduced, neighbours)} if len(reduced) <= MOST_COMPARED else {}
    umap = UMAP(n_neighbors=neighbours, init=start, random_state=seed, n_jobs=1, **known)
    made: Vectors = umap.fit_transform(reduced)
    return made


def _neighbours(reduced: Vectors, count: int) -> tuple[Rows, Vectors]:
    """Return the nearest rows of each row (n, count), itself first, and their distances."""
    from sklearn.neighbors import NearestNeighbors

    others = NearestNeighbors(n_neighbors=count - 1).fit(reduced).kneighbors(return_distance=False)
    rows = np.column_stack([np.arange(len(reduced)), others]).astype(np.int32)
    # From differences: UMAP asks which distances are zero, and those that scikit-learn finds for equal rows are not.
    distances = [np.linalg.norm(reduced - reduced[column], axis=1) for column in rows.T]
    return rows, np.stack(distances, axis=1)


def _tsne(reduced: Vectors, seed: int) -> Vectors:
    from sklearn.manifold import TSNE

    made: Vectors = TSNE(perplexity=min(30.0, (len(reduced) - 1) / 3), random_state=seed).fit_transform(reduced)
    return made


METHODS: dict[str, Callable[[Vectors, int], Vectors]] = {
    "pca": lambda reduced, seed: reduced[:, :2],
    "umap": _umap,
    "tsne": _tsne,
}
