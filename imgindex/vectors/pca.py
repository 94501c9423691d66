"""Principal components of many long vectors, found without ever holding a covariance matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from imgindex.types import Vectors
from imgindex.vectors.faiss_library import faiss
from imgindex.vectors.rows import Doubles, VectorRows

# Numbers that FAISS compares of a row, and the share of the variance that these must hold: the first that do. Below it,
# more candidates would cost more than shorter rows save.
REDUCTIONS = ((256, 0.9), (512, 0.8))
# Directions sought beyond those wanted, and products with the covariance.
SPARE, PASSES = 32, 3
# Direction cosines within this of 1 do not move a point by a visible amount.
SETTLED = 1e-6


@dataclass(frozen=True, slots=True)
class Principal:
    """Orthonormal principal directions (d, m), and the sum of squares (m,) of the points along each, falling."""

    directions: Vectors
    squares: Doubles


def principal_directions(
    points: VectorRows,
    mean: Doubles,
    count: int,
    *,
    rng: np.random.Generator,
    spare: int,
    passes: int,
    settle: int | None = None,
) -> Principal:
    """Return the first `count` principal directions of the points less their mean (d,), or all d where d is smaller.

    Randomized subspace iteration over all points, a block at a time (Halko, Martinsson and Tropp, "Finding structure
    with randomness", 2011), with the best directions within the subspace by Rayleigh and Ritz. The greatest entry of a
    direction is positive, so that two runs do not mirror each other.

    spare: directions beyond those wanted, with which the wanted ones settle in fewer passes. passes: products with the
    covariance, at most. settle: stop as soon as a pass no longer turns the first `settle` directions.
    """
    d = points.dimension
    spanning: Vectors | Doubles = rng.standard_normal((d, min(d, count + spare)), dtype=np.float32)
    best = np.zeros((d, 0), np.float32)
    for _ in range(passes):
        basis = orthonormal(spanning)
        image = _times_covariance(points, mean, basis)
        squares, rotation = np.linalg.eigh(basis.T.astype(np.float64) @ image)
        before, best = best, (basis @ rotation[:, ::-1][:, :count]).astype(np.float32)
        if squares[-1] <= 0 or (settle and _settled(before[:, :settle], best[:, :settle])):
            break
        # Rotated: columns that are nearly orthogonal already lose nothing when they are made so.
        spanning = image @ rotation
    greatest = best[np.abs(best).argmax(axis=0), np.arange(best.shape[1])]
    return Principal(best * np.where(greatest < 0, np.float32(-1), np.float32(1)), squares[::-1][:count])


def project(points: VectorRows, mean: Doubles, basis: Vectors) -> Vectors:
    """Return the points less their mean (d,) on an orthonormal basis (d, m), float32 (n, m)."""
    found = np.empty((len(points), basis.shape[1]), np.float32)
    for places, block in points.blocks():
        np.matmul(block, basis, out=found[places])
    found -= mean.astype(np.float32) @ basis
    return found


def orthonormal(columns: Vectors | Doubles) -> Vectors:
    """Return an orthonormal basis float32 (d, m' ≤ m) of the span of columns (d, m), dropping dependent ones.

    By the eigenvectors of the columns' products with each other: where the columns are not nearly dependent that is as
    good as a QR decomposition, which takes four times as long for 544 columns of 4,096 numbers.
    """
    scaled = columns / np.maximum(np.linalg.norm(columns, axis=0), np.finfo(np.float32).tiny)
    values, rotation = np.linalg.eigh(scaled.T.astype(np.float64) @ scaled)
    if values[-1] <= 0:
        return np.eye(len(columns), 1, dtype=np.float32)
    kept = values > 1e-12 * values[-1]
    basis: Vectors = (scaled @ (rotation[:, kept] / np.sqrt(values[kept]))).astype(np.float32)
    return basis


def faiss_reduction(sample: Vectors, *, seed: int) -> Any | None:
    """Return FAISS's linear transform of rows (n, d) to their first principal components, or None.

    To 256 components if these hold 90 % of the variance of the sample, or to 512 if these hold 80 %. None where they
    do not, rows are no longer than twice that, or the sample is small. FAISS's own PCAMatrix takes 76 s for 4,096
    numbers, this 4 s.
    """
    count, dimension = sample.shape
    most = REDUCTIONS[-1][0]
    if dimension <= 2 * most or count < 4 * most:
        return None
    points, mean = VectorRows.of(sample), sample.mean(axis=0, dtype=np.float64)
    rng = np.random.default_rng(seed)
    found = principal_directions(points, mean, most, rng=rng, spare=SPARE, passes=PASSES)
    total = float(np.einsum("ij,ij->", sample, sample, dtype=np.float64)) - count * float(mean @ mean)
    width = next((width for width, share in REDUCTIONS if float(found.squares[:width].sum()) >= share * total), None)
    if total <= 0 or width is None:
        return None
    # Rows of 0 stand for the directions that a sample of low rank lacks.
    matrix = np.zeros((width, dimension), np.float32)
    directions = found.directions.T[:width]
    matrix[: len(directions)] = directions
    transform = faiss.LinearTransform(dimension, width, True)
    faiss.copy_array_to_vector(matrix.ravel(), transform.A)
    faiss.copy_array_to_vector(-matrix @ mean.astype(np.float32), transform.b)
    transform.is_trained = True
    transform.set_is_orthonormal()
    return transform


class Reduction:
    """Applies a transform that `faiss_reduction` returned; to a single row in half the time that FAISS itself takes.

    FAISS multiplies matrices. Here one row is multiplied with each direction, by this thread alone: where other
    programs use the cores, the threads of a product would wait milliseconds for each other.
    """

    def __init__(self, transform: Any) -> None:
        self._transform = transform
        self._offset = faiss.vector_to_array(transform.b)

    def apply(self, rows: Vectors) -> Vectors:
        """Return float32 rows (n, d) as points (n, m)."""
        transform = self._transform
        if len(rows) != 1:
            points: Vectors = transform.apply(rows)
            return points
        points = np.empty((1, transform.d_out), np.float32)
        faiss.fvec_inner_products_ny(
            faiss.swig_ptr(points), faiss.swig_ptr(rows), transform.A.data(), transform.d_in, transform.d_out
        )
        points += self._offset
        return points


def _times_covariance(points: VectorRows, mean: Doubles, basis: Vectors) -> Doubles:
    """Return the covariance of the points, n times, times a basis (d, m), added up in float64."""
    middle = mean.astype(np.float32)
    product = np.zeros(basis.shape, np.float64)
    for _, block in points.blocks():
        centred = block - middle
        product += centred.T @ (centred @ basis)
    return product


def _settled(before: Vectors, now: Vectors) -> bool:
    return before.shape == now.shape and bool((np.abs((before * now).sum(axis=0)) > 1 - SETTLED).all())
