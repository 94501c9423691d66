"""Chooses what finds the nearest centroids: a processor, or a GPU where the work is large."""

from __future__ import annotations

from dataclasses import replace

from imgindex.vectors.rows import VectorRows

# Multiplications in one assignment of all rows above which a GPU saves more time than torch's import and start cost:
# from there on a processor takes about a second for it, and a run makes ten or more.
WORTH_A_GPU = 5e10


def on_device(points: VectorRows, device: str, work: float) -> VectorRows:
    """Return the points with torch on a device finding their nearest centroids; auto uses a GPU only for large work."""
    if device == "cpu" or (device == "auto" and work < WORTH_A_GPU):
        return points
    from imgindex.clustering.nearest_torch import NearestByTorch
    from imgindex.encoders.devices import choose_device

    chosen = choose_device(device)
    if device == "auto" and not chosen.startswith("cuda"):
        return points
    instead = points.finder if device == "auto" else None
    return replace(points, finder=NearestByTorch(chosen, instead=instead))
