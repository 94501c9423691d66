"""New images go into the clusters of an older clustering; the old ones stay where they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from imgindex.analysis.fit import fit, nearest
from imgindex.analysis.points import Points
from imgindex.answers.clusterings import Assigned, Assignment
from imgindex.clustering.keeping import clusters_of, restore
from imgindex.storage import clusterings
from imgindex.storage.clusterings import Members
from imgindex.storage.store import Store


def assign(store: Store, id: int | None, *, wait: Callable[[], bool] = lambda: False) -> Assignment:
    """Put the images that are not in a clustering into the cluster of the nearest centroid, and keep that.

    id: None for the newest clustering. Raises ClusteringNotFound, IndexLocked, IndexDamaged.
    """
    clustering = restore(store, id)
    with store.writing(wait=wait) as writer, store.reading():
        kept = clusterings.read(store.catalogue, clustering.id)
        now = clusterings.labels_now(store.catalogue, kept.head.id, kept.members)
        new = now.labels < 0
        points = Points.stored(store.blocks(now.ids[new]), store.segments.dimension)
        labels = nearest(points, kept.centroids)
        told = fit(points, labels, kept.centroids)
        paths = list(store.catalogue.image_paths().values())
        names = clusterings.names(store.catalogue)
        if new.any():
            with writer.catalogue.atomic():
                clusterings.assign(writer.catalogue, kept.head.id, Members(now.ids[new], labels, now.crcs[new]))
    all_labels = now.labels.copy()
    all_labels[new] = labels
    clusters = clusters_of(all_labels, kept.head, names)
    assigned = tuple(
        Assigned(
            path=paths[place],
            label=label,
            name=clusters[label].name,
            distance=distance,
            second=second if second >= 0 else None,
            margin=margin if second >= 0 else None,
            id=int(now.ids[place]),
        )
        for place, label, distance, second, margin in zip(
            np.flatnonzero(new).tolist(),
            labels.tolist(),
            told.distances.tolist(),
            told.seconds.tolist(),
            told.margins.tolist(),
            strict=True,
        )
    )
    sizes = tuple(cluster.size for cluster in clusters)
    grown = replace(
        clustering, ids=now.ids, paths=paths, labels=all_labels, clusters=clusters, sizes=sizes, gone=(), fit=None
    )
    return Assignment(grown, assigned)
