"""The nearest centroids by torch, where a GPU is at hand and the work is worth the way there."""

from __future__ import annotations

from collections.abc import Callable

import torch

from imgindex.analysis.points import Finder, Labels
from imgindex.types import Vectors


def nearest_on(device: torch.device) -> Callable[[Vectors], Finder]:
    """Return what `nearest_by_faiss` is, computed on a device: the same labels, but for rounding."""

    def nearest(centroids: Vectors) -> Finder:
        there = torch.tensor(centroids, device=device)
        squares = there.square().sum(dim=1)

        def find(rows: Vectors) -> tuple[Labels, Vectors]:
            # Copied, and not shared: a mapped row may not be written to, which torch would warn of.
            points = torch.tensor(rows, device=device)
            nearest, labels = torch.addmm(squares, points, there.T, alpha=-2).min(dim=1)
            return labels.cpu().numpy(), (nearest + points.square().sum(dim=1)).clamp(min=0).cpu().numpy()

        return find

    return nearest
