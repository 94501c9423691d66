"""Tracks clusters over time: a cluster of a new clustering that is still the same keeps its id and its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from imgindex.errors import UsageError
from imgindex.results import Cluster, Clustering
from imgindex.storage import clusterings
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.clusterings import ClusteringHeader, StoredClustering
from imgindex.storage.store import Store
from imgindex.types import Ids, Vectors
from imgindex.vectors.rows import Labels

# Two clusters are the same if they share at least this part of all images in either: clusters of equal size then have
# half of their images in common.
SAME = 1 / 3


def match_clusters(before: Labels, after: Labels, *, same: float = SAME) -> dict[int, int]:
    """Return label after → label before of the clusters that are the same, for two labellings (n,) of the same images.

    The pairs that together share the most images (Kuhn 1955, the Hungarian method), without those that share less than
    `same` of the images in either.
    """
    from scipy.optimize import linear_sum_assignment

    if not len(before):
        return {}
    counts = np.zeros((int(after.max()) + 1, int(before.max()) + 1), np.int64)
    np.add.at(counts, (after, before), 1)
    of_after, of_before = counts.sum(axis=1), counts.sum(axis=0)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    shared = counts[rows, columns]
    either = of_after[rows] + of_before[columns] - shared
    kept = (shared > 0) & (shared >= same * either)
    return dict(zip(rows[kept].tolist(), columns[kept].tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class PreviousClustering:
    """The stored clustering that a new one is compared with.

    labels (n,): of the images of the new clustering in this one, −1 for none. older: for clusters that have a name but
    belong to earlier clusterings only, which of the images (n,) were in them.
    """

    header: ClusteringHeader
    centroids: Vectors
    labels: Ids
    names: Mapping[int, str | None]
    older: Mapping[int, npt.NDArray[np.bool_]]


def previous_clustering(catalogue: Catalogue, found: Clustering) -> PreviousClustering | None:
    """Return the newest stored clustering; None where there is none. Raises IndexDamaged."""
    id = clusterings.newest(catalogue)
    if id is None:
        return None
    kept, names = clusterings.read(catalogue, id), clusterings.names(catalogue)
    missing = {cluster for cluster, name in names.items() if name is not None} - set(kept.header.clusters)
    older: dict[int, npt.NDArray[np.bool_]] = {}
    for header in reversed(clusterings.headers(catalogue)):
        if there := missing & set(header.clusters):
            labels = _labels_in(catalogue, clusterings.read(catalogue, header.id), found.ids)
            older |= {cluster: labels == header.clusters.index(cluster) for cluster in there}
            missing -= there
    return PreviousClustering(kept.header, kept.centroids, _labels_in(catalogue, kept, found.ids), names, older)


def _labels_in(catalogue: Catalogue, kept: StoredClustering, ids: Ids) -> Ids:
    """Return the labels of images (n,) in a stored clustering, −1 for images that it lacks."""
    now = clusterings.current_labels(catalogue, kept.header.id, kept.members)
    if not len(now.ids):
        return np.full(len(ids), -1, np.int64)
    at = np.searchsorted(now.ids, ids).clip(max=len(now.ids) - 1)
    return np.where(now.ids[at] == ids, now.labels[at], -1)


def persistent_ids(found: Clustering, previous: PreviousClustering | None, names: Mapping[int, str]) -> list[int]:
    """Return for each label the id of the earlier cluster that it still is; 0 for a new cluster.

    names: names of anchors by label; an anchor's cluster is the one that had its name.
    """
    if previous is None:
        return [0] * found.k
    both = previous.labels >= 0
    same = match_clusters(previous.labels[both], found.labels[both])
    ids = [previous.header.clusters[same[label]] if label in same else 0 for label in range(found.k)]
    for cluster, members in previous.older.items():  # a name survives clusterings without its cluster
        shared = np.bincount(found.labels[members], minlength=found.k) * (np.array(ids) == 0)
        label = int(shared.argmax())
        if shared[label] and shared[label] >= SAME * (found.sizes[label] + int(members.sum()) - shared[label]):
            ids[label] = cluster
    for label, name in names.items():
        for id_of_name, known_name in previous.names.items():
            if known_name == name:
                ids = [0 if id == id_of_name else id for id in ids]
                ids[label] = id_of_name
    return ids


def compare_with_previous(
    found: Clustering, previous: PreviousClustering | None, ids: list[int], names: Mapping[int, str]
) -> Clustering:
    """Return the clustering with what became of each cluster since the previous clustering.

    ids: of the cluster of each label, see `persistent_ids`. names: of anchors, by label.
    """
    sizes = list(found.sizes)
    if previous is None:
        clusters = [Cluster(label, id, names.get(label), sizes[label]) for label, id in enumerate(ids)]
        return replace(found, clusters=tuple(clusters))
    both = previous.labels >= 0
    sizes_before = np.bincount(previous.labels[both], minlength=len(previous.header.clusters))
    sizes_found = np.bincount(found.labels[both], minlength=found.k)
    clusters = []
    for label, id in enumerate(ids):
        name = names.get(label, previous.names.get(id))
        was = previous.header.clusters.index(id) if id in previous.header.clusters else None
        if was is None:
            clusters.append(Cluster(label, id, name, sizes[label]))
            continue
        stayed = int(((previous.labels == was) & (found.labels == label)).sum())
        moved = float(np.linalg.norm(found.centroids[label].astype(np.float64) - previous.centroids[was]))
        came, left = int(sizes_found[label]) - stayed, int(sizes_before[was]) - stayed
        clusters.append(Cluster(label, id, name, sizes[label], was, came, left, moved))
    gone = tuple(
        Cluster(label, id, previous.names.get(id), int(sizes_before[label]))
        for label, id in enumerate(previous.header.clusters)
        if id not in ids and sizes_before[label]  # otherwise no image of it was clustered this time
    )
    return replace(found, clusters=tuple(clusters), since=previous.header.id, gone=gone)


def rename_cluster(
    store: Store, label: int, name: str | None, *, id: int | None = None, wait: Callable[[], bool] = lambda: False
) -> Cluster:
    """Name the cluster with a label of a clustering (None: the newest); a name of None removes the name.

    Raises ClusteringNotFound, IndexLocked; UsageError for an unknown label, an impossible name, and a name that another
    cluster of that clustering has.
    """
    check_name(name)
    with store.catalogue.snapshot():  # mistakes are reported before anything is written
        found = _cluster(store.catalogue, label, name, id)
    with store.writing(wait=wait) as writer, writer.catalogue.atomic():
        clusterings.set_name(writer.catalogue, found.id, name)
    return found


def _cluster(catalogue: Catalogue, label: int, name: str | None, id: int | None) -> Cluster:
    kept, names = clusterings.read(catalogue, id), clusterings.names(catalogue)
    clusters = kept.header.clusters
    if not 0 <= label < len(clusters):
        raise UsageError(
            f"clustering {kept.header.id} has no label {label}", hint=f"its labels are 0 to {len(clusters) - 1}"
        )
    taken = next((other for other, known in enumerate(clusters) if name and names.get(known) == name), label)
    if taken != label:
        raise UsageError(
            f"cluster {taken} is called {name!r} already",
            hint=f"remove that name first, with `imgindex label {taken} --clear`",
        )
    return Cluster(label, clusters[label], name, int((kept.members.labels == label).sum()))


def check_name(name: str | None) -> None:
    """Raise UsageError for a name that looks like no name, or that does not fit on a line."""
    if name is not None and (not name.strip() or not name.isprintable() or len(name) > 200):
        raise UsageError(f"{name!r} cannot be a name", hint="give 1 to 200 printable characters, not only spaces")
