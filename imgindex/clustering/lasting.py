"""What lasts from one clustering to the next: clusters that are still the same, with their names, and what drifted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from imgindex.analysis.matching import SAME, partners
from imgindex.answers.clusterings import Cluster, Clustering
from imgindex.storage import clusterings
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.clusterings import Head, Ids, Kept
from imgindex.types import Vectors


@dataclass(frozen=True, slots=True)
class Wish:
    """What goes with a new clustering: the CRC32s (n,) of its vectors, and names for some labels."""

    crcs: Ids
    names: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Before:
    """The clustering that a new one is compared with: labels (n,) of the new one's images in it, −1 for none.

    older: which of the images (n,) were in clusters that have a name, but are not in that clustering.
    """

    head: Head
    centroids: Vectors
    labels: Ids
    names: Mapping[int, str | None]
    older: Mapping[int, npt.NDArray[np.bool_]]


def before_of(catalogue: Catalogue, found: Clustering) -> Before | None:
    """Return the newest clustering that is kept; None where there is none. Raises IndexDamaged."""
    id = clusterings.newest(catalogue)
    if id is None:
        return None
    kept, names = clusterings.read(catalogue, id), clusterings.names(catalogue)
    missing = {cluster for cluster, name in names.items() if name is not None} - set(kept.head.clusters)
    older: dict[int, npt.NDArray[np.bool_]] = {}
    for head in reversed(clusterings.heads(catalogue)):
        if there := missing & set(head.clusters):
            labels = _labels_in(catalogue, clusterings.read(catalogue, head.id), found.ids)
            older |= {cluster: labels == head.clusters.index(cluster) for cluster in there}
            missing -= there
    return Before(kept.head, kept.centroids, _labels_in(catalogue, kept, found.ids), names, older)


def _labels_in(catalogue: Catalogue, kept: Kept, ids: Ids) -> Ids:
    """Return the labels of images (n,) in a clustering, −1 where they have none."""
    now = clusterings.labels_now(catalogue, kept.head.id, kept.members)
    if not len(now.ids):
        return np.full(len(ids), -1, np.int64)
    at = np.searchsorted(now.ids, ids).clip(max=len(now.ids) - 1)
    return np.where(now.ids[at] == ids, now.labels[at], -1)


def lasting_ids(found: Clustering, before: Before | None, wish: Wish) -> list[int]:
    """Return for each label the id of the cluster that it still is; 0 for a new one."""
    if before is None:
        return [0] * found.k
    both = before.labels >= 0
    same = partners(before.labels[both], found.labels[both])
    ids = [before.head.clusters[same[label]] if label in same else 0 for label in range(found.k)]
    for cluster, members in before.older.items():  # a name outlives clusterings that have no such cluster
        shared = np.bincount(found.labels[members], minlength=found.k) * (np.array(ids) == 0)
        label = int(shared.argmax())
        if shared[label] and shared[label] >= SAME * (found.sizes[label] + int(members.sum()) - shared[label]):
            ids[label] = cluster
    for label, name in wish.names.items():
        for known, called in before.names.items():
            if called == name:  # an anchor's name says which cluster is meant
                ids = [0 if id == known else id for id in ids]
                ids[label] = known
    return ids


def compared(found: Clustering, before: Before | None, lasting: list[int], wish: Wish) -> Clustering:
    """Say what became of the clusters since the clustering before."""
    sizes = list(found.sizes)
    if before is None:
        clusters = [Cluster(label, id, wish.names.get(label), sizes[label]) for label, id in enumerate(lasting)]
        return replace(found, clusters=tuple(clusters))
    both = before.labels >= 0
    of_before = np.bincount(before.labels[both], minlength=len(before.head.clusters))
    of_found = np.bincount(found.labels[both], minlength=found.k)
    clusters = []
    for label, id in enumerate(lasting):
        name = wish.names.get(label, before.names.get(id))
        was = before.head.clusters.index(id) if id in before.head.clusters else None
        if was is None:
            clusters.append(Cluster(label, id, name, sizes[label]))
            continue
        stayed = int(((before.labels == was) & (found.labels == label)).sum())
        moved = float(np.linalg.norm(found.centroids[label].astype(np.float64) - before.centroids[was]))
        came, left = int(of_found[label]) - stayed, int(of_before[was]) - stayed
        clusters.append(Cluster(label, id, name, sizes[label], was, came, left, moved))
    gone = tuple(
        Cluster(label, id, before.names.get(id), int(of_before[label]))
        for label, id in enumerate(before.head.clusters)
        if id not in lasting and of_before[label]  # else none of its images was clustered now
    )
    return replace(found, clusters=tuple(clusters), since=before.head.id, gone=gone)
