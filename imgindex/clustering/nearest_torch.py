"""Finds the nearest centroids by torch, for work that is large enough to be worth moving to a GPU."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import groupby

import torch
from torch import Tensor

from imgindex.encoders.convolution import convolution
from imgindex.encoders.cuda_errors import free_memory, is_cuda_error, is_out_of_gpu_memory, unusable
from imgindex.types import Vectors
from imgindex.vectors.rows import Finder, NearestBlock, VectorRows

log = logging.getLogger(__name__)

# Rows that stay on the device are compared so many at once, unless their distances to all centroids take more bytes.
ROWS_AT_ONCE, DISTANCE_BYTES = 1 << 16, 256 << 20
# Rows stay on the device if they take this share of its free memory at most.
KEPT_SHARE = 0.5


class NearestByTorch:
    """Finds nearest centroids on a device, like `nearest_by_faiss`: the same labels, apart from rounding.

    The rows of the last points stay in the memory of an NVIDIA GPU where they fit. A step of k-means then copies the
    centroids there and the labels back, and no rows. instead: what finds them where the device fails; None: then
    DeviceUnavailable is raised.
    """

    def __init__(self, device: str, *, instead: Finder | None = None) -> None:
        self._device = torch.device(device)
        self._instead = instead
        self._has_failed = False
        # The last points, whether their rows are to stay on the device, and these rows when they are there.
        self._points: VectorRows | None = None
        self._keeps_rows = False
        self._rows: Tensor | None = None

    def __call__(self, points: VectorRows, centroids: Vectors) -> Iterator[NearestBlock]:
        """Yield the nearest of centroids (k, d) of each block of the points."""
        done = 0
        while done < len(points):
            if self._has_failed and self._instead is not None:
                yield from (block for block in self._instead(points, centroids) if block.places.start >= done)
                return
            blocks = self._blocks(points, centroids, done)
            # Another try begins after the blocks that were found. Its errors are handled here, the caller's are not.
            while (block := self._next(blocks)) is not None:
                yield block
                done = block.places.stop

    def _next(self, blocks: Iterator[NearestBlock]) -> NearestBlock | None:
        """Return the next block; None after the last one, and where the rest has to be tried in another way."""
        try:
            return next(blocks, None)
        except RuntimeError as error:
            is_memory = is_out_of_gpu_memory(error, self._device)
            if not is_memory and not is_cuda_error(error):
                raise
            if is_memory and self._keeps_rows:
                self._keeps_rows = False
                log.info("the rows do not stay on %s: %s", self._device, error)
            elif self._instead is not None:
                self._has_failed = True
                log.warning("k-means on the CPU instead of a GPU: %s", unusable(str(self._device), error))
            else:
                raise unusable(str(self._device), error) from error
            self._rows = None
            return None

    def _blocks(self, points: VectorRows, centroids: Vectors, start: int) -> Iterator[NearestBlock]:
        """Yield the nearest of centroids of each block from a row on, where a block starts."""
        kernels = torch.tensor(centroids, device=self._device)
        squares = kernels.square().sum(dim=1)
        # A kernel of 1 × 1 for each centroid: a product of matrices that is never rounded to TF32.
        kernels = kernels.mul(-2)[:, :, None, None]
        kept = self._rows_on_device(points)
        at_once = 1 if kept is None else max(1, min(ROWS_AT_ONCE, DISTANCE_BYTES // (4 * len(centroids))))
        slices = (places for places in points.slices() if places.start >= start)
        for _, group in groupby(slices, lambda places: places.start // at_once):
            part = list(group)
            whole = slice(part[0].start, part[-1].stop)
            rows = points[whole] if kept is None else None
            there = self._copied(rows) if rows is not None else kept[whole]  # type: ignore[index]
            nearest, labels = convolution(there[:, :, None, None], kernels).flatten(1).add_(squares).min(dim=1)
            distances = (nearest + there.square().sum(dim=1)).clamp(min=0).cpu().numpy()
            found = labels.cpu().numpy()
            for places in part:
                inside = slice(places.start - whole.start, places.stop - whole.start)
                yield NearestBlock(places, rows, found[inside], distances[inside])

    def _rows_on_device(self, points: VectorRows) -> Tensor | None:
        """Return all rows on an NVIDIA GPU, copied there once; None where they do not fit, or on another device."""
        of = self._points
        if of is None or of.row is not points.row or of.part is not points.part or of.origin is not points.origin:
            self._points, self._rows = points, None
            size = 4 * len(points) * points.dimension
            self._keeps_rows = self._device.type == "cuda" and size <= KEPT_SHARE * free_memory(self._device)
        if self._keeps_rows and self._rows is None:
            self._rows = torch.empty((len(points), points.dimension), device=self._device)
            for places, block in points.blocks():
                self._rows[places] = self._copied(block)
        return self._rows

    def _copied(self, rows: Vectors) -> Tensor:
        # torch.tensor copies; torch.from_numpy would warn of memory that is mapped read-only.
        return torch.tensor(rows, device=self._device)
