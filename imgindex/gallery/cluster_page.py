"""The page of a clustering: for each cluster its medoid, its nearest, farthest and borderline images, and a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from imgindex.clustering.metrics import measure_fit
from imgindex.gallery.model import ClusterPage, ClusterView, Facts, ImageCard, ListedImage, MapView
from imgindex.gallery.pages import Display
from imgindex.gallery.phrases import count
from imgindex.results import Cluster, Clustering, Fit
from imgindex.search.smoothed import vector_rows
from imgindex.search.smoothing import NEIGHBOURS
from imgindex.search.upkeep import prepare_smoothing
from imgindex.storage.store import Store
from imgindex.types import OnProgress
from imgindex.vectors.projection import project_to_plane
from imgindex.vectors.rows import Labels, VectorRows

# Images of each kind on a page, for each cluster.
EACH = 8
# The largest clusters have images of each kind; further clusters have only their medoid.
DETAILED = 200
# Members that are compared with each other to choose the medoid: 16 MB of distances.
CANDIDATES = 2000
# Images that a page can list by default: with their pictures it has about 10 MB.
LISTED = 2000
LEGEND = (
    "Each cluster shows the image most like all others of it, then those nearest to its middle. Below an image in a "
    "list is its distance to the middle of its cluster: the smaller, the more typical."
)
# Marks that a browser draws without a delay.
MOST_MARKS = 20_000


@dataclass(frozen=True, slots=True)
class _Members:
    """The images of a clustering that the index still has, in the order of ids, with their labels and distances."""

    ids: Labels
    labels: Labels
    fit: Fit


def cluster_page(
    store: Store,
    clustering: Clustering,
    *,
    methods: Sequence[str] = ("pca",),
    images: int | None = LISTED,
    display: Display = str,
    on_progress: OnProgress = lambda progress: None,
) -> ClusterPage:
    """Return the page of a clustering, from one state of the index; images that were removed since are left out.

    methods: the maps, see `projection.project_to_plane`; none for a page without a map. images: how many images the
    clusters list, all clusters together; None for all. display: returns the path as a reader sees it. Raises
    UsageError, ExtraMissing or IndexDamaged.
    """
    if clustering.smooth:
        prepare_smoothing(store)
    with store.reading():
        points, members = _members(store, clustering)
        paths = store.catalogue.image_paths()
        views = _views(points, members, clustering.clusters, paths, display, images)
        return ClusterPage(
            title=f"{count(len(views), 'cluster')} of {count(len(members.ids), 'image')}",
            facts=_facts(store, clustering, len(members.ids)),
            clusters=views,
            map=_map(points, members, paths, display, methods, clustering.seed, on_progress)
            if methods and len(members.ids)
            else None,
            curve=clustering.curve,
            chosen=clustering.k,
            note=f"clustering {clustering.id}" if clustering.id is not None else "",
            legend=LEGEND,
            empty="" if views else "No image of this clustering is in the index any more",
            command=f"imgindex clusterings show {clustering.id or 'ID'} --html FILE --images all",
        )


def _members(store: Store, clustering: Clustering) -> tuple[VectorRows, _Members]:
    points = vector_rows(store, clustering.ids, smooth=clustering.smooth)
    present = store.location_table()[:, 0]
    ids = present[np.isin(present, clustering.ids)]
    order = np.argsort(clustering.ids, kind="stable")
    labels = clustering.labels[order][np.searchsorted(clustering.ids[order], ids)]
    return points, _Members(ids, labels, measure_fit(points, labels, clustering.centroids))


def _views(
    points: VectorRows,
    members: _Members,
    clusters: Sequence[Cluster],
    paths: Mapping[int, str],
    display: Display,
    images: int | None,
) -> list[ClusterView]:
    order = np.argsort(members.labels, kind="stable")
    of_label = np.split(order, np.cumsum(np.bincount(members.labels, minlength=len(clusters)))[:-1])
    distances, margins = members.fit.distances, members.fit.margins
    titles = [cluster.name or f"cluster {cluster.label}" for cluster in clusters]

    def card(place: int, note: str = "") -> ImageCard:
        id, distance = int(members.ids[place]), float(distances[place])
        return ImageCard(paths[id], id, distance, note, name=display(paths[id]))

    def borderline(place: int) -> ImageCard:
        margin = max(0.0, float(margins[place]))
        return card(place, f"{margin:.3f} nearer than {titles[int(members.fit.second_labels[place])]}")

    def listed(place: int) -> ListedImage:
        path = paths[int(members.ids[place])]
        return ListedImage(int(members.ids[place]), path, display(path), float(distances[place]))

    most_listed = most_of_each([len(own) for own in of_label], images)
    views: list[ClusterView] = []
    for cluster in sorted(clusters, key=lambda cluster: (-len(of_label[cluster.label]), cluster.label)):
        own = of_label[cluster.label]
        if not len(own):
            continue
        by_distance = own[np.argsort(distances[own], kind="stable")]
        by_margin = own[np.argsort(margins[own].clip(0), kind="stable")] if len(clusters) > 1 else own[:0]
        most = EACH if len(views) < DETAILED else 0
        views.append(
            ClusterView(
                label=cluster.label,
                name=cluster.name,
                size=len(own),
                medoid=card(int(own[medoid(points.take(own))])),
                nearest=[card(place) for place in by_distance[:most].tolist()],
                farthest=[card(place) for place in by_distance[most:][::-1][:most].tolist()],
                borderline=[borderline(place) for place in by_margin[:most].tolist()],
                listed=[listed(place) for place in by_distance[:most_listed].tolist()],
            )
        )
    return views


def most_of_each(sizes: Sequence[int], total: int | None) -> int:
    """Return how many images of each cluster a list has, at most, so that all lists have at most `total` together.

    >>> most_of_each([100, 10, 3], 43), most_of_each([100, 10, 3], None)
    (30, 100)
    """
    if total is None:
        return max(sizes, default=0)
    left = total
    for number, size in enumerate(sorted(sizes)):
        # All clusters from here on are at least this large.
        share = left // (len(sizes) - number)
        if share < size:
            return share
        left -= size
    return max(sizes, default=0)


def medoid(points: VectorRows) -> int:
    """Return the place of the point with the least mean distance to the others; of several, the first.

    Of more than 2,000 points, an even sample of 2,000 is compared with itself.
    """
    places = np.unique(np.linspace(0, len(points) - 1, min(len(points), CANDIDATES)).astype(np.int64))
    rows = points[places]
    # Around their mean the rows are short, which keeps the rounding error of the distances in float32 small.
    rows = rows - rows.mean(axis=0)
    lengths = np.einsum("ij,ij->i", rows, rows)
    squares = lengths[:, None] + lengths - 2 * (rows @ rows.T)
    return int(places[np.sqrt(squares.clip(0)).sum(axis=1, dtype=np.float64).argmin()])


def _facts(store: Store, clustering: Clustering, images: int) -> Facts:
    facts = [
        ("images", f"{images:,}"),
        ("clusters", f"{clustering.k:,}"),
        ("k-means", f"{count(clustering.iterations, 'iteration')}, best of {count(clustering.restarts, 'start')}"),
        ("seed", str(clustering.seed)),
        ("index", store.path),
    ]
    if clustering.smooth:
        facts.append(("vectors", f"each averaged with its {NEIGHBOURS} nearest"))
    if clustering.trained_on < len(clustering.ids):
        facts.append(("centroids from", f"a sample of {clustering.trained_on:,} images"))
    if clustering.id is not None:
        facts.append(("kept as", f"clustering {clustering.id}"))
    if removed := len(clustering.ids) - images:
        facts.append(("removed since then", count(removed, "image")))
    return facts


def _map(
    points: VectorRows,
    members: _Members,
    paths: Mapping[int, str],
    display: Display,
    methods: Sequence[str],
    seed: int,
    on_progress: OnProgress,
) -> MapView:
    sample = np.unique(np.linspace(0, len(members.ids) - 1, min(len(members.ids), MOST_MARKS)).astype(np.int64))
    rows = points.take(sample)
    ids = members.ids[sample].tolist()
    return MapView(
        ids=ids,
        paths=[paths[id] for id in ids],
        names=[display(paths[id]) for id in ids],
        labels=members.labels[sample].tolist(),
        xy={
            method: [(x, y) for x, y in project_to_plane(rows, method, seed=seed, on_progress=on_progress).tolist()]
            for method in methods
        },
        of=len(members.ids),
    )
