"""What the clusters of a clustering look like: their images in the middle, at the rim, and on the way to another."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from imgindex.analysis.fit import fit
from imgindex.analysis.points import Labels, Points
from imgindex.analysis.projection import plane
from imgindex.analysis.scale import Scale
from imgindex.answers.clusterings import Cluster, Clustering, Fit
from imgindex.reports.pages.model import ClusterPage, ClusterView, Facts, MapView, Shown
from imgindex.reports.pages.words import count
from imgindex.storage.paths import shown as from_here
from imgindex.storage.store import Store

# Images of each kind that a page shows of a cluster.
EACH = 8
# Clusters that are shown so; of those beyond, which are smaller, the medoid alone.
PORTRAYED = 200
# Members among which the medoid is chosen, and to which it is compared: 16 MB of distances.
CANDIDATES = 2000
# Marks that a browser draws at once without stumbling.
MOST_MARKS = 20_000


@dataclass(frozen=True, slots=True)
class _Members:
    """The images of a clustering that are there now, in the order of ids: their labels, and how they fit."""

    ids: Labels
    labels: Labels
    fit: Fit


def cluster_page(store: Store, clustering: Clustering, *, methods: Sequence[str] = ("pca",)) -> ClusterPage:
    """Return what a page of a clustering shows, from one state of the index; images gone since then are left out.

    methods: how the map is made, see `projection.plane`; none for no map. Raises UsageError, ExtraMissing or
    IndexDamaged.
    """
    with store.reading():
        here = os.getcwd()
        points, members = _members(store, clustering)
        paths = {id: from_here(path, here=here) for id, path in store.catalogue.image_paths().items()}
        views = _views(points, members, clustering.clusters, paths)
        return ClusterPage(
            title=f"{count(len(views), 'cluster')} of {count(len(members.ids), 'image')}",
            facts=_facts(store, clustering, len(members.ids)),
            clusters=views,
            map=_map(points, members, paths, methods, clustering.seed) if methods and len(members.ids) else None,
            curve=clustering.curve,
            chosen=clustering.k,
        )


def _members(store: Store, clustering: Clustering) -> tuple[Points, _Members]:
    blocks = store.blocks(only=clustering.ids)
    points = Points.stored(blocks, store.segments.dimension)
    ids = np.sort(np.concatenate([np.empty(0, np.int64), *(block.ids[block.ids >= 0] for block in blocks)]))
    order = np.argsort(clustering.ids, kind="stable")
    labels = clustering.labels[order][np.searchsorted(clustering.ids[order], ids)]
    return points, _Members(ids, labels, fit(points, labels, clustering.centroids))


def _views(
    points: Points, members: _Members, clusters: Sequence[Cluster], paths: Mapping[int, str]
) -> list[ClusterView]:
    order = np.argsort(members.labels, kind="stable")
    of_label = np.split(order, np.cumsum(np.bincount(members.labels, minlength=len(clusters)))[:-1])
    distances, margins = members.fit.distances, members.fit.margins
    scale = Scale(np.sort(distances), exact=True)
    titles = [cluster.name or f"cluster {cluster.label}" for cluster in clusters]

    def image(place: int, note: str = "") -> Shown:
        id, distance = int(members.ids[place]), float(distances[place])
        return Shown(paths[id], id, distance, scale.farther(distance), note)

    def doubtful(place: int) -> Shown:
        margin = max(0.0, float(margins[place]))
        return image(place, f"{margin:.3f} nearer than {titles[int(members.fit.seconds[place])]}")

    views: list[ClusterView] = []
    for cluster in sorted(clusters, key=lambda cluster: (-len(of_label[cluster.label]), cluster.label)):
        own = of_label[cluster.label]
        if not len(own):
            continue
        from_middle = own[np.argsort(distances[own], kind="stable")]
        between = own[np.argsort(margins[own].clip(0), kind="stable")] if len(clusters) > 1 else own[:0]
        most = EACH if len(views) < PORTRAYED else 0
        views.append(
            ClusterView(
                label=cluster.label,
                name=cluster.name,
                size=len(own),
                spread=float(distances[own].mean(dtype=np.float64)),
                medoid=image(int(own[medoid(points.only(own))])),
                nearest=[image(place) for place in from_middle[:most].tolist()],
                farthest=[image(place) for place in from_middle[most:][::-1][:most].tolist()],
                borderline=[doubtful(place) for place in between[:most].tolist()],
            )
        )
    return views


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
    facts += [("kept as", f"clustering {clustering.id}")] if clustering.id is not None else []
    gone = len(clustering.ids) - images
    return [*facts, ("gone since", f"{gone:,} images")] if gone else facts


def _map(points: Points, members: _Members, paths: Mapping[int, str], methods: Sequence[str], seed: int) -> MapView:
    kept = np.unique(np.linspace(0, len(members.ids) - 1, min(len(members.ids), MOST_MARKS)).astype(np.int64))
    some = points.only(kept)
    ids = members.ids[kept].tolist()
    return MapView(
        ids=ids,
        paths=[paths[id] for id in ids],
        labels=members.labels[kept].tolist(),
        xy={method: [(x, y) for x, y in plane(some, method, seed=seed).tolist()] for method in methods},
        of=len(members.ids),
    )
