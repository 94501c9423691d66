"""Averages each vector with its nearest neighbours: database-side augmentation.

Turcot and Lowe, Better matching with fewer features, ICCV workshops 2009; Arandjelović and Zisserman, Three things
everyone should know to improve object retrieval, CVPR 2012. Here a vector has the weight 1, and each of its 8 nearest
neighbours the third power of the cosine of the angle between the two, so that a far neighbour hardly counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgindex.search.neighbours import without_themselves
from imgindex.types import Ids, OnProgress, Progress, VectorBlock, Vectors, VectorSearch
from imgindex.vectors.rows import Labels, VectorRows

NEIGHBOURS = 8
# Rows that are searched for at once.
QUERIES = 1024
# Bytes of rows, in float64 and with their neighbours, that are averaged at once.
AVERAGED_BYTES = 64 << 20

STAGE = "find neighbours"


@dataclass(frozen=True, slots=True)
class Neighbourhoods:
    """The nearest neighbours of the present images of an index.

    ids: of the images, int64 (n,), rising. crcs: the CRC32s of their vectors, int64 (n,). near: the ids of their
    neighbours other than themselves, int64 (n, 8), nearest first, ties by id; −1 where there are fewer. distances:
    float32 (n, 8), infinite there.
    """

    ids: Ids
    crcs: Ids
    near: Ids
    distances: Vectors

    @classmethod
    def none(cls) -> Neighbourhoods:
        """Return the neighbourhoods of no image."""
        shape = (0, NEIGHBOURS)
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(shape, np.int64), np.empty(shape, np.float32))

    def has(self, ids: Ids, crcs: Ids) -> npt.NDArray[np.bool_]:
        """Return for each of some images whether it is one of these, with the same vector."""
        if not len(self.ids):
            return np.zeros(len(ids), np.bool_)
        at = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
        same: npt.NDArray[np.bool_] = (self.ids[at] == ids) & (self.crcs[at] == crcs)
        return same

    def are_those_of(self, ids: Ids, crcs: Ids) -> bool:
        """Return whether these are the neighbourhoods of exactly these images and vectors."""
        return np.array_equal(self.ids, ids) and np.array_equal(self.crcs, crcs)


def find_neighbours(
    points: VectorRows,
    ids: Ids,
    crcs: Ids,
    search: VectorSearch,
    search_among: Callable[[Ids], VectorSearch],
    before: Neighbourhoods,
    on_progress: OnProgress,
) -> Neighbourhoods:
    """Return the neighbourhoods of images (n,), from those of an earlier state of the index: the same as from nothing.

    An image that was there before, with its neighbours, has new neighbours only among new images. So it is compared
    with these alone. New and changed images, and those that lost a neighbour, are searched for among all.

    points: the vectors, in the order of ids. search: among all images. search_among: makes an exact search among the
    images of some ids.
    """
    # Imported late: where both are loaded, torch must come before FAISS.
    from imgindex.search.exact import nearest

    same = before.has(ids, crcs)
    near, distances = np.full((len(ids), NEIGHBOURS), -1), np.full((len(ids), NEIGHBOURS), np.inf, np.float32)
    at = np.searchsorted(before.ids, ids[same])
    near[same], distances[same] = before.near[at], before.distances[at]
    gone = before.ids[~np.isin(before.ids, ids[same])]
    lost = same & np.isin(near, gone).any(axis=1)
    to_compare, to_search = np.flatnonzero(same & ~lost), np.flatnonzero(~same | lost)
    if same.all():
        to_compare = to_compare[:0]
    total, done = len(to_compare) + len(to_search), 0
    on_progress(Progress(STAGE, 0, total))
    among_new = search_among(ids[~same]) if len(to_compare) else search
    for places in _batches(to_compare):
        found = among_new.search(points[places], NEIGHBOURS)
        both = np.hstack([near[places], found.ids]), np.hstack([distances[places], found.distances])
        near[places], distances[places] = nearest(*both, NEIGHBOURS)
        done += len(places)
        on_progress(Progress(STAGE, done, total))
    for places in _batches(to_search):
        found = without_themselves(ids[places], search.search(points[places], NEIGHBOURS + 1))
        near[places], distances[places] = found.ids, found.distances
        done += len(places)
        on_progress(Progress(STAGE, done, total))
    return Neighbourhoods(ids, crcs, near, distances)


def each_average(points: VectorRows, known: Neighbourhoods, *, unit: bool) -> Iterator[tuple[slice, Vectors]]:
    """Yield the averaged vectors of all images, float32 (b, d), a block at a time, with their places.

    points: the vectors of the images of `known`. unit: whether the recipe's vectors have length 1.
    """
    step = max(1, AVERAGED_BYTES // (8 * points.dimension * (NEIGHBOURS + 1)))
    for start in range(0, len(known.ids), step):
        places = slice(start, min(start + step, len(known.ids)))
        yield places, average(points[places], known.near[places], known.ids, points, unit=unit)


def average(vectors: Vectors, near: Ids, ids: Ids, points: VectorRows, *, unit: bool) -> Vectors:
    """Return the averages float32 (q, d) of vectors (q, d) with their neighbours, computed in float64.

    near: the ids (q, 8) of the neighbours, −1 for none. ids: those of the points. A neighbour at a right angle or more
    has the weight 0. unit: scale the average to length 1, as the recipe does with vectors. A row of zeros stays so.

    >>> points = VectorRows.of(np.eye(2, dtype=np.float32)[[0, 0, 1]])
    >>> average(np.float32([[0.6, 0.8]]), np.array([[2, -1]]), np.array([1, 2, 3]), points, unit=False).round(3)
    array([[0.671, 0.658]], dtype=float32)
    """
    own = vectors.astype(np.float64)
    total, weights, length = own.copy(), np.ones(len(own)), _lengths(own)
    for of_rank in near.T:
        there = np.flatnonzero(of_rank >= 0)
        other = points[np.searchsorted(ids, of_rank[there])].astype(np.float64)
        products = np.einsum("ij,ij->i", own[there], other)
        scale = length[there] * _lengths(other)
        cosine = np.divide(products, scale, out=np.zeros_like(scale), where=scale > 0).clip(0, 1)
        weight = cosine * cosine * cosine
        total[there] += weight[:, None] * other
        weights[there] += weight
    total /= (_lengths(total) if unit else weights)[:, None].clip(np.finfo(np.float64).tiny)
    averages: Vectors = total.astype(np.float32)
    return averages


def _batches(places: Labels) -> Iterator[Labels]:
    return (places[start : start + QUERIES] for start in range(0, len(places), QUERIES))


def _lengths(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    lengths: npt.NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return lengths


@dataclass(frozen=True, slots=True)
class SmoothedRows:
    """The averaged vectors (n, dimension) of the present images of an index, in the order of ids, maybe mapped.

    search: the name of the search that found the neighbours, see `lifecycle.search_name`.
    """

    known: Neighbourhoods
    vectors: Vectors
    search: str

    def block(self, only: Ids | None = None) -> VectorBlock:
        """Return the rows as a block for searches and k-means, with the id −1 where it is not one of `only`."""
        ids = self.known.ids
        return VectorBlock(ids if only is None else np.where(np.isin(ids, only), ids, -1), self.vectors)
