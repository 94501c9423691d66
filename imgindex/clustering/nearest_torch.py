"""Finds the nearest centroids by torch, for work that is large enough to be worth moving to a GPU."""

from __future__ import annotations

from collections.abc import Callable

import torch

from imgindex.types import Vectors
from imgindex.vectors.rows import Finder, Labels


def nearest_on(device: str) -> Callable[[Vectors], Finder]:
    """Return a function like `nearest_by_faiss` that computes on a device: the same labels, apart from rounding."""

    def nearest(centroids: Vectors) -> Finder:
        on_device = torch.tensor(centroids, device=device)
        squares = on_device.square().sum(dim=1)

        def find(rows: Vectors) -> tuple[Labels, Vectors]:
            # Copied rather than shared: torch warns of memory that is mapped read-only.
            points = torch.tensor(rows, device=device)
            nearest, labels = torch.addmm(squares, points, on_device.T, alpha=-2).min(dim=1)
            return labels.cpu().numpy(), (nearest + points.square().sum(dim=1)).clamp(min=0).cpu().numpy()

        return find

    return nearest
