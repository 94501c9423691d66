"""How well each row lies in its cluster: distance to its centroid, margin to the next one, silhouette."""

from __future__ import annotations

import numpy as np

from imgindex.analysis.points import Labels, Points
from imgindex.answers.clusterings import Fit
from imgindex.types import Vectors

# Rows that silhouettes are told by: all of them up to so many, else as many evenly taken from each cluster.
COMPARED = 2000


def fit(points: Points, labels: Labels, centroids: Vectors, *, silhouettes: bool = False) -> Fit:
    """Return how well each of the points (n, d) lies in the cluster of its label, among centroids (k, d)."""
    own = np.empty(len(points), np.float32)
    seconds, margins = np.full(len(points), -1, np.int64), np.full(len(points), np.nan, np.float32)
    # Not before: torch must be loaded ahead of FAISS when both are.
    import faiss

    centroids = centroids - points.origin
    index = faiss.IndexFlatL2(points.dimension)
    index.add(np.ascontiguousarray(centroids))
    for places, block in points.blocks():
        own[places] = _distances(block, centroids[labels[places]])
        if len(centroids) > 1:
            nearest = index.search(block, 2)[1]
            other = np.where(nearest[:, 0] == labels[places], nearest[:, 1], nearest[:, 0])
            seconds[places] = other
            margins[places] = _distances(block, centroids[other]) - own[places]
    told = _silhouettes(points, labels, len(centroids)) if silhouettes else np.empty(0, np.float32)
    return Fit(own, seconds, margins, told)


def nearest(points: Points, centroids: Vectors) -> Labels:
    """Return the label (n,) of the centroid (k, d) that is nearest to each point."""
    find = points.nearest(centroids - points.origin)
    return np.concatenate([np.empty(0, np.int64), *(find(block)[0] for _, block in points.blocks())])


def _distances(rows: Vectors, centroids: Vectors) -> Vectors:
    offsets = rows.astype(np.float64) - centroids
    found: Vectors = np.sqrt(np.einsum("ij,ij->i", offsets, offsets)).astype(np.float32)
    return found


def _silhouettes(points: Points, labels: Labels, k: int) -> Vectors:
    """Silhouettes (n,) of all points against some: 0 where no other one of the own cluster is among those."""
    some = _evenly_of_each(labels, k)
    rows = points[some].astype(np.float64)
    squares = np.einsum("ij,ij->i", rows, rows)
    members = np.zeros((len(some), k))
    members[np.arange(len(some)), labels[some]] = 1
    sizes = members.sum(axis=0)
    among = np.zeros(len(points), bool)
    among[some] = True
    found = np.empty(len(points), np.float32)
    for places, block in points.blocks():
        block64, own = block.astype(np.float64), labels[places]
        lengths = np.einsum("ij,ij->i", block64, block64)
        distances = np.sqrt((lengths[:, None] + squares - 2 * (block64 @ rows.T)).clip(0))
        # The rounding of products would be the distance of a row to itself.
        itself = np.searchsorted(some, np.arange(places.start, places.stop)[among[places]])
        distances[np.flatnonzero(among[places]), itself] = 0
        found[places] = _of_block(distances @ members, sizes, own, among[places])
    return found


def _of_block(sums: Vectors, sizes: Vectors, own: Labels, among: Labels) -> Vectors:
    here = np.arange(len(own))
    others = sizes[own] - among
    inside = sums[here, own] / np.maximum(others, 1)
    means = np.divide(sums, sizes, out=np.full_like(sums, np.inf), where=sizes > 0)
    means[here, own] = np.inf
    outside = means.min(axis=1)
    told = (outside > 0) & np.isfinite(outside) & (others > 0)
    wide = np.maximum(np.maximum(inside, outside), 1e-30)
    scores: Vectors = np.where(told, np.divide(outside - inside, wide, where=told, out=np.zeros_like(wide)), 0)
    return scores


def _evenly_of_each(labels: Labels, k: int) -> Labels:
    """Rising places of at most about 2,000 rows, of each cluster its share, but two where it has them."""
    if len(labels) <= COMPARED:
        return np.arange(len(labels))
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(k + 1))
    taken = []
    for first, last in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        wanted = min(last - first, max(2, round(COMPARED * (last - first) / len(labels))))
        taken.append(order[np.linspace(first, last - 1, wanted).astype(np.int64)] if wanted else order[:0])
    return np.sort(np.concatenate(taken))
