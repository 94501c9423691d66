"""Vectors as rows that are read a block at a time, from arrays or mapped segments, and never copied as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from imgindex.errors import TooFewDistinctVectors, UsageError
from imgindex.types import VectorBlock, Vectors
from imgindex.vectors.nearest_centroids import nearest_centroids

Labels = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

# A block stays in the processor's cache while it is compared and summed.
BLOCK_BYTES = 8 << 20
BLOCK_ROWS = 4096
# The squared length of the mean, in variances, above which float32 products of the rows lose their differences.
FAR_FROM_ORIGIN = 10.0
SAMPLE = 1024


@dataclass(frozen=True, slots=True)
class NearestBlock:
    """A block of rows with its place: the label (b,) of the nearest centroid of each, and the squared distance (b,).

    rows (b, d): None where they were not read from the disk for this.
    """

    places: slice
    rows: Vectors | None
    labels: Labels
    squares: Vectors


# From points and centroids (k, d), which are less the origin too, to the nearest ones of each block of the points.
Finder = Callable[["VectorRows", Vectors], Iterator[NearestBlock]]


def nearest_by_faiss(points: VectorRows, centroids: Vectors) -> Iterator[NearestBlock]:
    """Yield the nearest of centroids (k, d), which are less the origin too, of each block of the points."""
    find = nearest_centroids(centroids)
    for places, rows in points.blocks():
        labels, squares = find(rows)
        yield NearestBlock(places, rows, labels[:, 0], squares[:, 0])


@dataclass(frozen=True, slots=True)
class VectorRows:
    """n rows of d numbers, read as float32 less an origin (d,), which is 0 unless the rows lie far from 0.

    Row i is row `row[i]` of `parts[part[i]]`, which may be a memory map of any float type.
    finder: what finds the nearest centroids of the rows; see `nearest_by_faiss`.
    """

    parts: Sequence[npt.NDArray[Any]]
    part: Labels
    row: Labels
    origin: Vectors
    finder: Finder = nearest_by_faiss

    @classmethod
    def of(cls, vectors: Any) -> VectorRows:
        """Return the rows of a matrix (n, d). Raises UsageError for anything else."""
        shape = np.shape(vectors)
        if len(shape) != 2 or shape[1] == 0:
            raise UsageError(f"vectors must be a matrix with one vector in each row, not of shape {shape}")
        zeros = np.zeros(shape[0], np.int64)
        return cls([np.asarray(vectors)], zeros, np.arange(shape[0]), np.zeros(shape[1], np.float32))

    @classmethod
    def stored(cls, blocks: Sequence[VectorBlock], dimension: int) -> VectorRows:
        """Return the rows of the present images in stored blocks, in the order of ids, which no compaction changes.

        Raises IndexDamaged where a row is not what was stored.
        """
        ids, places = [], []
        for number, block in enumerate(blocks):
            present = np.flatnonzero(block.ids >= 0)
            block.check(present)
            ids.append(block.ids[present])
            places.append(np.stack([np.full(len(present), number), present]))
        order = np.argsort(np.concatenate([np.empty(0, np.int64), *ids]), kind="stable")
        part, row = np.concatenate([np.empty((2, 0), np.int64), *places], axis=1)[:, order]
        return cls([block.vectors for block in blocks], part, row, np.zeros(dimension, np.float32))

    def __len__(self) -> int:
        return len(self.row)

    @property
    def dimension(self) -> int:
        return len(self.origin)

    def slices(self) -> Iterator[slice]:
        """Yield slices of at most 4,096 rows and 8 MB that cover all rows."""
        n = len(self)
        step = max(1, min(BLOCK_ROWS, BLOCK_BYTES // (4 * self.dimension)))
        return (slice(start, min(start + step, n)) for start in range(0, n, step))

    def blocks(self) -> Iterator[tuple[slice, Vectors]]:
        """Yield each block of rows (b, d) with its place. A block may be a view of a part: do not write to it."""
        return ((places, self[places]) for places in self.slices())

    def nearest(self, centroids: Vectors) -> Iterator[NearestBlock]:
        """Yield the nearest of centroids (k, d), which are less the origin too, of each block of rows."""
        return self.finder(self, centroids)

    def __getitem__(self, places: slice | Labels) -> Vectors:
        """Return these rows (b, d), without a copy where they lie together as float32 and the origin is 0."""
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(self._gather(places, np.dtype(np.float32)), np.float32)
        return rows - self.origin if self.origin.any() else rows

    def raw(self, places: slice | Labels) -> npt.NDArray[Any]:
        """Return these rows (b, d) as they are stored, neither converted nor less the origin."""
        return np.ascontiguousarray(self._gather(places, np.result_type(*self.parts)))

    def _gather(self, places: slice | Labels, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return these rows, without a copy where they lie together; as `dtype` where they do not."""
        part, row = self.part[places], self.row[places]
        present = np.unique(part) if len(self.parts) > 1 else part[:1]
        if len(present) == 1 and (np.diff(row) == 1).all():
            together: npt.NDArray[Any] = self.parts[present[0]][row[0] : row[-1] + 1]
            return together
        rows: npt.NDArray[Any] = np.empty((len(row), self.dimension), dtype)
        for number in present:
            rows[part == number] = self.parts[number][row[part == number]]
        return rows

    def take(self, places: Labels) -> VectorRows:
        """Return the rows at these places, without copying them."""
        return replace(self, part=self.part[places], row=self.row[places])

    def sample_evenly(self, count: int) -> VectorRows:
        """Return about `count` of the rows, evenly taken: all of them where there are fewer than twice as many."""
        return self.take(np.arange(0, len(self), max(1, len(self) // count)))


def centre_far_rows(points: VectorRows) -> tuple[VectorRows, Doubles]:
    """Return the points and their mean (d,), both from an origin in the middle of the points where they lie far from 0.

    Raises UsageError for NaN and infinity, and for numbers whose squares do not fit float32.
    """
    n = len(points)
    with np.errstate(over="ignore", invalid="ignore"):
        sample = points.sample_evenly(SAMPLE)[:].astype(np.float64)
        middle = sample.sum(axis=0) / max(len(sample), 1)
        spread = float(((sample - middle) ** 2).sum()) / max(len(sample), 1)
        if middle @ middle > FAR_FROM_ORIGIN * spread:
            points = replace(points, origin=middle.astype(np.float32))
        sums, squares = np.zeros(points.dimension), 0.0
        for _, block in points.blocks():
            sums += block.sum(axis=0, dtype=np.float64)
            squares += float(np.einsum("ij,ij->i", block, block).sum(dtype=np.float64))
    if not np.isfinite(sums).all():
        bad = sum(int((~np.isfinite(block).all(axis=1)).sum()) for _, block in points.blocks())
        raise UsageError(f"vectors that hold NaN or infinity: {bad:,} of {n:,}", hint="leave those vectors out")
    mean = sums / max(n, 1)
    variance = squares / max(n, 1) - float(mean @ mean)
    if squares and not 1e-24 < variance < 1e24:
        raise UsageError("the vectors are too small or too large for float32 distances", hint="rescale them")
    return points, mean


def require_distinct(points: VectorRows, k: int) -> None:
    """Raise TooFewDistinctVectors unless k of the points differ from each other."""
    if k > len(points):
        raise TooFewDistinctVectors(f"k={k} is more than the number of vectors, {len(points):,}")
    seen: set[bytes] = set()
    for _, block in points.blocks():
        for row in block:
            # Adding 0 turns -0.0 into 0.0: the two are equal, and so must their bytes be.
            seen.add(hashlib.blake2b((row + 0).tobytes(), digest_size=16).digest())
            if len(seen) == k:
                return
    raise TooFewDistinctVectors(
        f"k={k} is more than the number of distinct vectors, {len(seen):,} among {len(points):,}"
    )
