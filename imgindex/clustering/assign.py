"""Assigns new images to the clusters of a stored clustering; the images that it has stay where they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from imgindex.clustering.history import clusters_of, load_clustering
from imgindex.clustering.metrics import measure_fit, nearest_labels
from imgindex.results import Assigned, Assignment, Cluster, Clustering, Fit
from imgindex.search.smoothed import vector_rows
from imgindex.search.upkeep import update_search_files
from imgindex.storage import clusterings
from imgindex.storage.clusterings import Membership
from imgindex.storage.store import Store
from imgindex.storage.writer import Writer


def assign(store: Store, id: int | None, *, wait: Callable[[], bool] = lambda: False) -> Assignment:
    """Put the images that a clustering lacks into the cluster of the nearest centroid, and store that.

    id: None for the newest clustering. An image whose vector has changed since counts as one that it lacks.

    Raises ClusteringNotFound, IndexLocked, IndexDamaged.
    """
    clustering = load_clustering(store, id)
    with store.writing(wait=wait) as writer:
        if clustering.smooth:
            update_search_files(store, writer, smooth=True)
        return _assign(store, writer, clustering)


def _assign(store: Store, writer: Writer, clustering: Clustering) -> Assignment:
    with store.reading():
        stored = clusterings.read(store.catalogue, clustering.id)
        current = clusterings.current_labels(store.catalogue, stored.header.id, stored.members)
        lacking = current.labels < 0
        points = vector_rows(store, current.ids[lacking], smooth=clustering.smooth)
        new = Membership(current.ids[lacking], nearest_labels(points, stored.centroids), current.crcs[lacking])
        fit = measure_fit(points, new.labels, stored.centroids)
        paths = store.catalogue.image_paths()
        names = clusterings.names(store.catalogue)
        if len(new.ids):
            with writer.catalogue.atomic():
                clusterings.assign(writer.catalogue, stored.header.id, new)
    labels = current.labels.copy()
    labels[lacking] = new.labels
    clusters = clusters_of(labels, stored.header, names)
    grown = replace(
        clustering,
        ids=current.ids,
        paths=list(paths.values()),
        labels=labels,
        clusters=clusters,
        sizes=tuple(cluster.size for cluster in clusters),
        gone=(),
        fit=None,
    )
    return Assignment(grown, tuple(_assigned(new, fit, place, paths, clusters) for place in range(len(new.ids))))


def _assigned(new: Membership, fit: Fit, place: int, paths: dict[int, str], clusters: tuple[Cluster, ...]) -> Assigned:
    id, label, second = int(new.ids[place]), int(new.labels[place]), int(fit.second_labels[place])
    return Assigned(
        path=paths[id],
        label=label,
        name=clusters[label].name,
        distance=float(fit.distances[place]),
        second=second if second >= 0 else None,
        margin=float(fit.margins[place]) if second >= 0 else None,
        id=id,
    )
