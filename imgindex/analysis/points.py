"""The vectors that k-means clusters: read a block at a time from arrays or mapped segments, never copied as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from imgindex.errors import TooFewDistinctVectors, UsageError
from imgindex.types import Rows, Vectors

Labels = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
# For rows (b, d), the nearest of some centroids (b,), and their squared distance to it (b,).
Finder = Callable[[Vectors], tuple[Labels, Vectors]]

# A block stays in the processor's cache while it is compared and added up.
BLOCK_BYTES = 8 << 20
BLOCK_ROWS = 4096
# The squared length of the mean, in variances, above which float32 products of raw rows lose the small differences.
FAR_FROM_ORIGIN = 10.0
SAMPLE = 1024


def nearest_by_faiss(centroids: Vectors) -> Finder:
    """Return what finds the nearest of centroids (k, d), as FAISS's own k-means does."""
    # Not before: torch must be loaded ahead of FAISS when both are.
    import faiss

    index = faiss.IndexFlatL2(centroids.shape[1])
    index.add(np.ascontiguousarray(centroids))

    def find(rows: Vectors) -> tuple[Labels, Vectors]:
        squares, labels = index.search(rows, 1)
        return labels[:, 0], squares[:, 0]

    return find


@dataclass(frozen=True, slots=True)
class Points:
    """n rows of d numbers, given as float32 less an origin (d,), which is 0 unless they lie far from there.

    Row i is row `row[i]` of `parts[part[i]]`, which may be a memory map of any float type.
    nearest: how the nearest of some centroids are found; those are less the origin, too.
    """

    parts: Sequence[npt.NDArray[Any]]
    part: Labels
    row: Labels
    origin: Vectors
    nearest: Callable[[Vectors], Finder] = nearest_by_faiss

    @classmethod
    def of(cls, vectors: Any) -> Points:
        """Take a matrix (n, d). Raises UsageError for anything else."""
        shape = np.shape(vectors)
        if len(shape) != 2 or shape[1] == 0:
            raise UsageError(f"vectors must be a matrix, one row a vector, not of shape {shape}")
        zeros = np.zeros(shape[0], np.int64)
        return cls([np.asarray(vectors)], zeros, np.arange(shape[0]), np.zeros(shape[1], np.float32))

    @classmethod
    def stored(cls, blocks: Sequence[Rows], dimension: int) -> Points:
        """Take the rows of stored blocks that are shown, in the order of ids, which no compaction changes.

        Raises IndexDamaged where one is not what was stored.
        """
        ids, places = [], []
        for number, block in enumerate(blocks):
            shown = np.flatnonzero(block.ids >= 0)
            block.check(shown)
            ids.append(block.ids[shown])
            places.append(np.stack([np.full(len(shown), number), shown]))
        order = np.argsort(np.concatenate([np.empty(0, np.int64), *ids]), kind="stable")
        part, row = np.concatenate([np.empty((2, 0), np.int64), *places], axis=1)[:, order]
        return cls([block.vectors for block in blocks], part, row, np.zeros(dimension, np.float32))

    def __len__(self) -> int:
        return len(self.row)

    @property
    def dimension(self) -> int:
        return len(self.origin)

    def slices(self) -> Iterator[slice]:
        """Cut the rows into slices of at most 4,096 rows and 8 MB."""
        n = len(self)
        step = max(1, min(BLOCK_ROWS, BLOCK_BYTES // (4 * self.dimension)))
        return (slice(start, min(start + step, n)) for start in range(0, n, step))

    def blocks(self) -> Iterator[tuple[slice, Vectors]]:
        """Give every block of rows (b, d) with its place; it may be a view of a part: read it only."""
        return ((places, self[places]) for places in self.slices())

    def __getitem__(self, places: slice | Labels) -> Vectors:
        """Return these rows (b, d), without a copy where they lie together as float32 and the origin is 0."""
        part, row = self.part[places], self.row[places]
        present = np.unique(part)
        rows: npt.NDArray[Any]
        with np.errstate(over="ignore"):
            if len(present) == 1 and (np.diff(row) == 1).all():
                rows = np.ascontiguousarray(self.parts[present[0]][row[0] : row[-1] + 1], np.float32)
            else:
                rows = np.empty((len(row), self.dimension), np.float32)
                for number in present:
                    rows[part == number] = self.parts[number][row[part == number]]
        return rows - self.origin if self.origin.any() else rows

    def only(self, places: Labels) -> Points:
        """Return the points at these places."""
        return replace(self, part=self.part[places], row=self.row[places])

    def evenly(self, count: int) -> Points:
        """Return about `count` of the points, evenly taken; all where they are fewer than twice as many."""
        return self.only(np.arange(0, len(self), max(1, len(self) // count)))


def measure(points: Points) -> tuple[Points, Doubles]:
    """Move the origin to the middle of points that lie far from it, and return their mean (d,) from there.

    Raises UsageError for NaN and infinity, and for what float32 distances cannot tell apart.
    """
    n = len(points)
    with np.errstate(over="ignore", invalid="ignore"):
        some = points.evenly(SAMPLE)[:].astype(np.float64)
        middle = some.sum(axis=0) / max(len(some), 1)
        spread = float(((some - middle) ** 2).sum()) / max(len(some), 1)
        if middle @ middle > FAR_FROM_ORIGIN * spread:
            points = replace(points, origin=middle.astype(np.float32))
        sums, squares = np.zeros(points.dimension), 0.0
        for _, block in points.blocks():
            sums += block.sum(axis=0, dtype=np.float64)
            squares += float(np.einsum("ij,ij->i", block, block).sum(dtype=np.float64))
    if not np.isfinite(sums).all():
        bad = sum(int((~np.isfinite(block).all(axis=1)).sum()) for _, block in points.blocks())
        raise UsageError(f"{bad} of {n} vectors hold NaN or infinity", hint="leave those rows out")
    mean = sums / max(n, 1)
    variance = squares / max(n, 1) - float(mean @ mean)
    if squares and not 1e-24 < variance < 1e24:
        raise UsageError("the vectors are too small or too large for float32 distances", hint="rescale them")
    return points, mean


def need_distinct(points: Points, k: int) -> None:
    """Raise TooFewDistinctVectors unless k of the points differ from each other."""
    if k > len(points):
        raise TooFewDistinctVectors(f"only {len(points)} vectors for k={k}")
    seen: set[bytes] = set()
    for _, block in points.blocks():
        for row in block:
            # Adding 0 makes -0.0, which is no other number, the same bytes as 0.0.
            seen.add(hashlib.blake2b((row + 0).tobytes(), digest_size=16).digest())
            if len(seen) == k:
                return
    raise TooFewDistinctVectors(f"only {len(seen)} distinct vectors for k={k}, among {len(points)}")
