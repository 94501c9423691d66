"""Projects vectors to the plane, for maps: by principal components, or by the libraries of PaCMAP, UMAP and t-SNE."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from imgindex.errors import ExtraMissing, UsageError
from imgindex.types import Ids, OnProgress, Progress, Vectors
from imgindex.vectors.pca import principal_directions, project
from imgindex.vectors.rows import VectorRows, centre_far_rows

Rows = npt.NDArray[np.int32]

# Components that the other methods start from: the rest is mostly noise, and distances in 50 numbers cost a tenth.
REDUCED = 50
# See `principal_directions`: the two of a map settle within a few passes.
SPARE, PASSES = 14, 12
# t-SNE of this many points takes three minutes on two cores; UMAP takes as long for five times as many.
MOST_TSNE = 20_000
# With fewer points the other methods fail, or draw chance: they need neighbours that have neighbours of their own.
FEW = 10
# Up to so many points UMAP is given each one's nearest neighbours. To find them by itself, it compiles code for six
# seconds and more.
MOST_COMPARED = 50_000
# PaCMAP lays out at most so many points, which takes it a minute or two; the others stand among their nearest of these.
MOST_LAID_OUT = 50_000
AMONG = 4
# The most bytes of the vectors that others are placed among.
MOST_PLACED_AMONG = 256 << 20
# The libraries take seeds of 32 bits.
SEEDS = 2**32


def project_to_plane(
    points: VectorRows, method: str = "pca", *, seed: int = 42, on_progress: OnProgress = lambda progress: None
) -> Vectors:
    """Return coordinates float32 (n, 2) of the points: `pca`, `pacmap`, `umap` or `tsne`; the same seed, the same ones.

    All but pca start from the first 50 principal components. Fewer than 10 points are always projected by pca. pacmap
    (Wang et al. 2021) lays out 50,000 points, taken evenly, and places the others among their nearest four of these.
    Raises UsageError for another method, a negative seed, or t-SNE of more than 20,000 points; ExtraMissing without
    the library of pacmap or umap.
    """
    check_method(method)
    if seed < 0:
        raise UsageError(f"the seed of a map is {seed}", hint="give 0 or more")
    if method == "tsne" and len(points) > MOST_TSNE:
        raise UsageError(
            f"t-SNE of {len(points):,} images takes too long; it is limited to {MOST_TSNE:,}",
            hint="choose pacmap, umap or pca",
        )
    on_progress(Progress("principal components", 0, len(points)))
    if method == "pca" or len(points) < FEW:
        return principal_components(points, 2, seed=seed)
    reduced = principal_components(points, REDUCED, seed=seed)
    on_progress(Progress(f"layout by {method}", 0, len(points)))
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
    if method in LIBRARIES and not _has(method):
        title, package = LIBRARIES[method]
        raise ExtraMissing(
            f"a {title} map needs {package}", hint=f"install it with `pip install {package}`, or choose pca or tsne"
        )


def _has(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
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


def _pacmap(reduced: Vectors, seed: int) -> Vectors:
    from pacmap import PaCMAP

    logging.getLogger("pacmap").setLevel(logging.ERROR)  # it warns that a seed is set
    laid_out = np.arange(0, len(reduced), -(-len(reduced) // MOST_LAID_OUT))
    # It begins by centring and scaling its input in place.
    rows = np.array(reduced[laid_out])
    pacmap = PaCMAP(n_neighbors=min(10, len(rows) - 1), random_state=seed, apply_pca=False)
    found: Vectors = pacmap.fit_transform(rows, init="pca")
    if len(laid_out) == len(reduced):
        return found
    made = np.empty((len(reduced), 2), np.float32)
    made[laid_out] = found
    others = np.setdiff1d(np.arange(len(reduced)), laid_out, assume_unique=True)
    made[others] = place_among(VectorRows.of(reduced), laid_out, found, others)
    return made


def place_among(points: VectorRows, laid_out: Ids, found: Vectors, others: Ids) -> Vectors:
    """Return coordinates float32 (n, 2) of points: the means of those of their nearest four that were laid out.

    The nearer one of these counts more, by the inverse of its distance. laid_out (m,), others (n,): places in points.
    found (m, 2): the coordinates of what was laid out; of more than 50,000 such points some are taken, evenly.
    """
    # Imported late: where both are loaded, torch must come before FAISS.
    from imgindex.vectors.faiss_library import faiss

    most = min(MOST_LAID_OUT, MOST_PLACED_AMONG // (4 * points.dimension))
    some = np.arange(0, len(laid_out), -(-len(laid_out) // most))
    index = faiss.IndexFlatL2(points.dimension)
    for _, block in points.take(laid_out[some]).blocks():
        index.add(np.ascontiguousarray(block, np.float32))
    near, made = found[some], np.empty((len(others), 2), np.float32)
    for places, block in points.take(others).blocks():
        squares, nearest = index.search(np.ascontiguousarray(block, np.float32), min(AMONG, len(some)))
        weights = 1 / (np.sqrt(squares.clip(0)) + 1e-6)
        made[places] = (near[nearest] * weights[:, :, None]).sum(axis=1) / weights.sum(axis=1, keepdims=True)
    return made


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
    "pacmap": _pacmap,
    "umap": _umap,
    "tsne": _tsne,
}
# What is imported for a method, its name, and the package to install.
LIBRARIES = {"pacmap": ("PaCMAP", "pacmap"), "umap": ("UMAP", "umap-learn")}
