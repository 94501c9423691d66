"""What the clusters of a clustering look like: their images in the middle, at the rim, and on the way to another."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from imgindex.analysis.points import Labels, Points
from imgindex.analysis.projection import plane
from imgindex.analysis.scale import Scale
from imgindex.answers import Clustering
from imgindex.reports.pages.model import ClusterPage, ClusterView, Facts, MapView, Shown
from imgindex.reports.pages.words import count
from imgindex.storage.paths import shown as from_here
from imgindex.storage.store import Store
from imgindex.types import Vectors

# Images of each kind that a page shows of a cluster.
EACH = 8
# Clusters that are shown so; of those beyond, which are smaller, the medoid alone.
PORTRAYED = 200
# Members among which the medoid is chosen, and to which it is compared: 16 MB of distances.
CANDIDATES = 2000
# Marks that a browser draws at once without stumbling.
MOST_MARKS = 20_000


@dataclass(frozen=True, slots=True)
class _Fit:
    """How images fit their clusters, in the order of ids: the cluster of each, its distance to that one's centroid.

    other, second: the next nearest centroid, and the distance to it; inf where there is one cluster alone.
    """

    ids: Labels
    labels: Labels
    own: Vectors
    other: Labels
    second: Vectors


def cluster_page(
    store: Store, clustering: Clustering, *, names: Sequence[str | None] = (), methods: Sequence[str] = ("pca",)
) -> ClusterPage:
    """Return what a page of a clustering shows, from one state of the index; images gone since then are left out.

    names: of the clusters, by label; there may be fewer. methods: how the map is made, see `projection.plane`; none for
    no map. Raises UsageError, ExtraMissing or IndexDamaged.
    """
    with store.reading():
        here = os.getcwd()
        points, fit = _fit(store, clustering)
        paths = {id: from_here(path, here=here) for id, path in store.catalogue.image_paths().items()}
        views = _views(points, fit, clustering.k, paths, [*names, *[None] * (clustering.k - len(names))])
        return ClusterPage(
            title=f"{count(len(views), 'cluster')} of {count(len(fit.ids), 'image')}",
            facts=_facts(store, clustering, len(fit.ids)),
            clusters=views,
            map=_map(points, fit, paths, methods, clustering.seed) if methods and len(fit.ids) else None,
            curve=clustering.curve,
            chosen=clustering.k,
        )


def _fit(store: Store, clustering: Clustering) -> tuple[Points, _Fit]:
    blocks = store.blocks(only=clustering.ids)
    points = Points.stored(blocks, store.segments.dimension)
    ids = np.sort(np.concatenate([np.empty(0, np.int64), *(block.ids[block.ids >= 0] for block in blocks)]))
    order = np.argsort(clustering.ids, kind="stable")
    labels = clustering.labels[order][np.searchsorted(clustering.ids[order], ids)]
    own, second = np.empty(len(ids), np.float32), np.full(len(ids), np.inf, np.float32)
    other = np.zeros(len(ids), np.int64)
    centroids = np.asarray(clustering.centroids, np.float32)
    lengths = np.einsum("ij,ij->i", centroids, centroids)
    for places, block in points.blocks():
        own[places] = _distances(block, centroids[labels[places]])
        if len(centroids) < 2:
            continue
        # Up to what each image's own length adds to all of its squared distances.
        squares = lengths - 2 * (block @ centroids.T)
        squares[np.arange(len(block)), labels[places]] = np.inf
        other[places] = squares.argmin(axis=1)
        second[places] = _distances(block, centroids[other[places]])
    return points, _Fit(ids, labels, own, other, second)


def _distances(rows: Vectors, others: Vectors) -> Vectors:
    difference = rows - others
    distances: Vectors = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return distances


def _views(
    points: Points, fit: _Fit, k: int, paths: Mapping[int, str], names: Sequence[str | None]
) -> list[ClusterView]:
    order = np.argsort(fit.labels, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(fit.labels, minlength=k))[:-1])
    scale = Scale(np.sort(fit.own), exact=True)
    titles = [name or f"cluster {label}" for label, name in enumerate(names)]

    def image(place: int, note: str = "") -> Shown:
        id, distance = int(fit.ids[place]), float(fit.own[place])
        return Shown(paths[id], id, distance, scale.farther(distance), note)

    views: list[ClusterView] = []
    for label in sorted((label for label in range(k) if len(members[label])), key=lambda label: -len(members[label])):
        own = members[label]
        from_middle = own[np.argsort(fit.own[own], kind="stable")]
        margin = np.maximum(fit.second[own] - fit.own[own], 0)
        doubtful = own[np.argsort(margin, kind="stable")] if np.isfinite(margin).all() else own[:0]
        most = EACH if len(views) < PORTRAYED else 0
        views.append(
            ClusterView(
                label=label,
                name=names[label],
                size=len(own),
                spread=float(fit.own[own].mean(dtype=np.float64)),
                medoid=image(int(own[medoid(points.only(own))])),
                nearest=[image(place) for place in from_middle[:most].tolist()],
                farthest=[image(place) for place in from_middle[most:][::-1][:most].tolist()],
                borderline=[image(place, _margin(fit, place, titles)) for place in doubtful[:most].tolist()],
            )
        )
    return views


def _margin(fit: _Fit, place: int, titles: Sequence[str]) -> str:
    margin = max(0.0, float(fit.second[place] - fit.own[place]))
    return f"{margin:.3f} nearer than {titles[int(fit.other[place])]}"


def medoid(points: Points) -> int:
    """Return the place of the point with the least mean distance to the others, the first one where several have it.

    Of more than 2,000 points, so many are candidates, evenly taken, and compared to each other alone.
    """
    places = np.unique(np.linspace(0, len(points) - 1, min(len(points), CANDIDATES)).astype(np.int64))
    rows = points[places]
    middle = rows.mean(axis=0)
    # Lengths are small about the middle, and so is what float32 loses of the distances.
    rows = rows - middle
    lengths = np.einsum("ij,ij->i", rows, rows)
    squares = lengths[:, None] + lengths - 2 * (rows @ rows.T)
    return int(places[np.sqrt(squares.clip(0)).sum(axis=1, dtype=np.float64).argmin()])


def _facts(store: Store, clustering: Clustering, images: int) -> Facts:
    facts = [
        ("images", f"{images:,}"),
        ("clusters", f"{clustering.k:,}"),
        ("objective", f"{clustering.objective:.6g}"),
        ("trained on", f"{clustering.trained_on:,} images"),
        ("iterations", f"{clustering.iterations}, best of {clustering.restarts} starts"),
        ("seed", str(clustering.seed)),
        ("index", from_here(store.path, here=os.getcwd())),
    ]
    gone = len(clustering.ids) - images
    return [*facts, ("gone since", f"{gone:,} images")] if gone else facts


def _map(points: Points, fit: _Fit, paths: Mapping[int, str], methods: Sequence[str], seed: int) -> MapView:
    kept = np.unique(np.linspace(0, len(fit.ids) - 1, min(len(fit.ids), MOST_MARKS)).astype(np.int64))
    some = points.only(kept)
    ids = fit.ids[kept].tolist()
    return MapView(
        ids=ids,
        paths=[paths[id] for id in ids],
        labels=fit.labels[kept].tolist(),
        xy={method: [(x, y) for x, y in plane(some, method, seed=seed).tolist()] for method in methods},
        of=len(fit.ids),
    )
