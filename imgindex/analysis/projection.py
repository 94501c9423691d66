"""Vectors on a plane, to be looked at: by principal components, or by UMAP or t-SNE of their libraries."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from imgindex.analysis.points import Doubles, Points, measure
from imgindex.analysis.seeding import orthonormal, project
from imgindex.errors import ExtraMissing, UsageError
from imgindex.types import Vectors

# Components that UMAP and t-SNE start from: the rest is mostly noise, and distances in 50 numbers cost a tenth.
REDUCED = 50
# Directions beyond those that are wanted make the wanted ones settle in fewer passes.
SPARE = 14
PASSES = 12
# Direction cosines within this of 1 do not move a point by what one could see.
SETTLED = 1e-6
# t-SNE of so many takes some minutes on two cores; UMAP takes as long for five times as many.
MOST_TSNE = 20_000
# Below so many neighbours have no neighbours of their own, and both methods fail or draw chance.
FEW = 10


def plane(points: Points, method: str = "pca", *, seed: int = 42) -> Vectors:
    """Return coordinates float32 (n, 2) of the points: `pca`, `umap` or `tsne`; the same seed gives the same ones.

    umap and tsne see the first 50 principal components; below 10 points all are pca, which alone means something there.
    Raises UsageError for another method, or t-SNE of more than 20,000; ExtraMissing without their libraries.
    """
    if method not in METHODS:
        raise UsageError(f"there is no map {method!r}", hint=f"choose one of: {', '.join(METHODS)}")
    if method == "tsne" and len(points) > MOST_TSNE:
        raise UsageError(
            f"t-SNE of {len(points):,} images would take hours, its limit is {MOST_TSNE:,}", hint="choose umap or pca"
        )
    if method == "pca" or len(points) < FEW:
        return components(points, 2, seed=seed)
    reduced = components(points, REDUCED, seed=seed)
    with warnings.catch_warnings():
        # The libraries warn of their own insides, which nobody can act on who asks for a map.
        warnings.simplefilter("ignore")
        made = METHODS[method](reduced, seed)
    return np.ascontiguousarray(made, dtype=np.float32)


def components(points: Points, count: int, *, seed: int = 42) -> Vectors:
    """Return the first principal components of the points, float32 (n, count); zeros where there are fewer.

    Subspace iteration over all rows, a block at a time (Halko, Martinsson & Tropp 2011), until the directions rest.
    The greatest entry of a direction is positive, so that a picture does not flip between two runs.
    """
    n, d = len(points), points.dimension
    found = np.zeros((n, count), np.float32)
    if n < 2:
        return found
    points, mean = measure(points)
    basis = _principal_directions(points, mean, min(count, d), seed)
    found[:, : basis.shape[1]] = project(points, mean.astype(np.float32), basis)
    return found


def _principal_directions(points: Points, mean: Doubles, count: int, seed: int) -> Vectors:
    d = points.dimension
    width = min(d, count + SPARE)
    basis = orthonormal(np.random.default_rng(seed).standard_normal((d, width), dtype=np.float32))
    best = np.zeros((d, 0), np.float32)
    for _ in range(PASSES):
        image = _times_covariance(points, mean, basis)
        # The best directions within the basis, by what the covariance does there (Rayleigh and Ritz).
        values, rotation = np.linalg.eigh(basis.T.astype(np.float64) @ image)
        before, best = best, (basis @ rotation[:, ::-1][:, :count]).astype(np.float32)
        basis = orthonormal(image.astype(np.float32))
        rests = before.shape == best.shape and bool((np.abs((before * best).sum(axis=0))[:2] > 1 - SETTLED).all())
        if rests or values[-1] <= 0:
            break
    greatest = best[np.abs(best).argmax(axis=0), np.arange(best.shape[1])]
    directions: Vectors = best * np.where(greatest < 0, np.float32(-1), np.float32(1))
    return directions


def _times_covariance(points: Points, mean: Doubles, basis: Vectors) -> npt.NDArray[np.float64]:
    middle = mean.astype(np.float32)
    product = np.zeros(basis.shape, np.float64)
    for _, block in points.blocks():
        centred = block - middle
        product += centred.T @ (centred @ basis)
    return product


def _umap(reduced: Vectors, seed: int) -> Vectors:
    try:
        from umap import UMAP
    except ImportError as error:
        raise ExtraMissing("a UMAP map needs umap-learn", hint=HINT) from error
    neighbours = min(15, len(reduced) - 1)
    # A spectral start needs more rows than it has directions to find.
    start = "spectral" if len(reduced) > 4 * neighbours else "pca"
    made: Vectors = UMAP(n_neighbors=neighbours, init=start, random_state=seed, n_jobs=1).fit_transform(reduced)
    return made


def _tsne(reduced: Vectors, seed: int) -> Vectors:
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ExtraMissing("a t-SNE map needs scikit-learn", hint=HINT) from error
    made: Vectors = TSNE(perplexity=min(30.0, (len(reduced) - 1) / 3), random_state=seed).fit_transform(reduced)
    return made


HINT = "install it with `pip install 'imgindex[plots]'`, or choose pca"
METHODS: dict[str, Callable[[Vectors, int], Vectors]] = {
    "pca": lambda reduced, seed: reduced[:, :2],
    "umap": _umap,
    "tsne": _tsne,
}
