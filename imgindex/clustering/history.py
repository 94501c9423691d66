"""Stores clusterings in the index with the provenance of each, and loads them again."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import msgspec
import numpy as np

from imgindex._version import VERSION
from imgindex.clustering.lloyd import distances
from imgindex.clustering.metrics import measure_fit
from imgindex.clustering.tracking import (
    PreviousClustering,
    compare_with_previous,
    persistent_ids,
    previous_clustering,
)
from imgindex.errors import ImgindexError, IndexDamaged, IndexLocked
from imgindex.recipe import Recipe
from imgindex.results import Cluster, Clustering, ClusteringSummary, Fit, KScore, LabelFormat, edited_from
from imgindex.search.smoothed import vector_rows
from imgindex.search.upkeep import prepare_smoothing
from imgindex.storage import clusterings
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.clusterings import ClusteringHeader, Membership, StoredClustering
from imgindex.storage.store import Store
from imgindex.types import Ids, Vectors

# Columns of a CSV that are computed from the vectors.
VECTOR_COLUMNS = frozenset({"distance", "margin", "second", "silhouette"})

# JSON written by another program may hold numbers that no float64 holds exactly, or that overflow when they are added.
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Number = Annotated[float, msgspec.Meta(gt=-1e300, lt=1e300)]


class StoredFormat(msgspec.Struct, frozen=True):
    """The label format of a clustering, as JSON in the catalogue; a sample submission is stored beside it."""

    id: str
    extras: tuple[str, ...]


class Provenance(msgspec.Struct, frozen=True):
    """What a clustering was made from and how, as JSON in the catalogue."""

    k: Count
    seed: Annotated[int, msgspec.Meta(ge=0)]
    objective: Number
    iterations: Count
    restarts: Count
    restart_objectives: tuple[Number, ...]
    converged: bool
    sizes: tuple[Count, ...]
    trained_on: Count
    seconds: Number
    recipe: str
    recipe_digest: str
    versions: dict[str, str]
    options: dict[str, Any]
    curve: tuple[KScore, ...]
    since: Count | None
    clusters: tuple[Cluster, ...]
    gone: tuple[Cluster, ...]
    form: StoredFormat
    copies: Number = 0.0


# The fields that a Clustering has under the same names.
SAME_FIELDS = tuple(name for name in Provenance.__struct_fields__ if name not in ("clusters", "form"))


def store_clustering(
    store: Store, found: Clustering, *, crcs: Ids, names: Mapping[int, str], wait: Callable[[], bool]
) -> Clustering:
    """Store a clustering, and return it with its id; its clusters keep the ids and names of the same clusters before.

    crcs: the CRC32s (n,) of the vectors that were clustered. names: names for some labels.
    Where the index cannot be written to now, the clustering is returned with the reason in `not_kept`.
    """
    found = replace(found, recipe=Recipe.from_json(store.recipe_json).name)
    try:
        with store.writing(wait=wait) as writer, writer.catalogue.atomic():
            previous = previous_clustering(writer.catalogue, found)
            ids = persistent_ids(found, previous, names)
            return keep(writer.catalogue, found, ids, previous, crcs=crcs, names=names)
    except (IndexLocked, IndexDamaged, OSError, sqlite3.Error) as error:
        with store.reading():
            previous = previous_clustering(store.catalogue, found)
            ids = persistent_ids(found, previous, names)
            return replace(compare_with_previous(found, previous, ids, names), not_kept=_reason(error))


def load_clustering(store: Store, id: int | None) -> Clustering:
    """Return a clustering as it was stored, the newest for None, with the names that its clusters have now.

    Raises ClusteringNotFound, IndexDamaged.
    """
    with store.catalogue.snapshot():
        return from_stored(store, clusterings.read(store.catalogue, id))


def from_stored(store: Store, stored: StoredClustering) -> Clustering:
    """Return a stored clustering as `load_clustering` does. Raises IndexDamaged."""
    names = clusterings.names(store.catalogue)
    provenance = _provenance(store, stored.header)
    try:
        fit = _fit(stored.details) if stored.details else None
    except (KeyError, ValueError) as error:
        raise _damaged(store, stored.header) from error
    return Clustering(
        **{name: getattr(provenance, name) for name in SAME_FIELDS},
        ids=stored.members.ids,
        paths=stored.paths,
        labels=stored.members.labels,
        centroids=stored.centroids,
        made_at=stored.header.made_at,
        id=stored.header.id,
        clusters=tuple(replace(cluster, name=names.get(cluster.id)) for cluster in provenance.clusters),
        label_format=LabelFormat(provenance.form.id, stored.sample, provenance.form.extras),
        fit=fit,
    )


def is_smooth(store: Store, id: int | None) -> bool:
    """Return whether averaged vectors were clustered, of a clustering, the newest for None.

    Its images are not read. Raises ClusteringNotFound, IndexDamaged.
    """
    with store.catalogue.snapshot():
        known = clusterings.existing_id(store.catalogue, id)
        (header,) = (header for header in clusterings.headers(store.catalogue) if header.id == known)
    return _provenance(store, header).options.get("smooth") is True


def summaries(store: Store) -> list[ClusteringSummary]:
    """Return a summary of each stored clustering, the oldest first. Raises IndexDamaged."""
    with store.catalogue.snapshot():
        names = clusterings.names(store.catalogue)
        headers = clusterings.headers(store.catalogue)
    return [_summary(header, _provenance(store, header), names) for header in headers]


def with_fit(store: Store, clustering: Clustering, *, silhouettes: bool) -> Clustering:
    """Return the clustering with its `fit`, computed from the vectors that the index has now unless it was stored.

    An image that has no vector any more has NaN, and −1 as second label. Raises IndexDamaged.
    """
    if clustering.fit is not None and (len(clustering.fit.silhouettes) or not silhouettes):
        return clustering
    if clustering.smooth:
        prepare_smoothing(store)
    with store.reading():
        points = vector_rows(store, clustering.ids, smooth=clustering.smooth)
        has_vector = np.isin(clustering.ids, store.location_table()[:, 0])
    fit = measure_fit(points, clustering.labels[has_vector], clustering.centroids, silhouettes=silhouettes)

    def spread(values: Vectors) -> Vectors:
        column = np.full(len(has_vector), np.nan, np.float32)
        column[has_vector] = values
        return column

    second_labels = np.full(len(has_vector), -1, np.int64)
    second_labels[has_vector] = fit.second_labels
    scores = spread(fit.silhouettes) if silhouettes else fit.silhouettes
    return replace(clustering, fit=Fit(spread(fit.distances), second_labels, spread(fit.margins), scores))


def squared_distances(store: Store, clustering: Clustering) -> Vectors:
    """Return the squared distance of each image (n,) to its centroid, NaN for one that has no vector any more.

    A `fit` takes several times as long, because it compares each image with all centroids. Raises IndexDamaged.
    """
    if clustering.smooth:
        prepare_smoothing(store)
    with store.reading():
        points = vector_rows(store, clustering.ids, smooth=clustering.smooth)
        has_vector = np.isin(clustering.ids, store.location_table()[:, 0])
    found = np.full(len(has_vector), np.nan, np.float32)
    found[has_vector] = distances(points, clustering.centroids, clustering.labels[has_vector])
    return found


def software_versions() -> dict[str, str]:
    """Return the versions by which a clustering could be made again."""
    from imgindex.vectors.faiss_library import faiss

    return {
        "imgindex": VERSION,
        "faiss": faiss.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def clusters_of(labels: Ids, header: ClusteringHeader, names: Mapping[int, str | None]) -> tuple[Cluster, ...]:
    """Return the clusters of a stored clustering with the sizes that labels (n,) give them, −1 being no label."""
    sizes = np.bincount(labels[labels >= 0], minlength=len(header.clusters)).tolist()
    return tuple(Cluster(label, id, names.get(id), sizes[label]) for label, id in enumerate(header.clusters))


def keep(
    catalogue: Catalogue,
    found: Clustering,
    ids: Sequence[int],
    previous: PreviousClustering | None,
    *,
    crcs: Ids,
    names: Mapping[int, str],
) -> Clustering:
    """Store a clustering, and return it with its id and what became of the previous one; the caller commits.

    ids: for each label the id of its cluster, 0 for a new one. crcs, names: as in `store_clustering`.
    """
    ids = [id or clusterings.new_cluster(catalogue) for id in ids]
    for label, name in names.items():
        clusterings.set_name(catalogue, ids[label], name)
    found = compare_with_previous(found, previous, ids, names)
    provenance = Provenance(
        **{name: getattr(found, name) for name in SAME_FIELDS},
        clusters=found.clusters,
        form=StoredFormat(found.label_format.id, tuple(found.label_format.extras)),
    )
    stored = StoredClustering(
        ClusteringHeader(0, "", msgspec.to_builtins(provenance), tuple(ids)),
        found.centroids,
        Membership(found.ids, found.labels, crcs),
        found.paths,
        {} if found.fit is None else _details(found.fit),
        found.label_format.like,
    )
    header = clusterings.keep(catalogue, stored)
    return replace(found, id=header.id, made_at=header.made_at)


def _provenance(store: Store, header: ClusteringHeader) -> Provenance:
    """Return the provenance of a stored clustering. Raises IndexDamaged for JSON that `keep` cannot have written."""
    try:
        provenance = msgspec.convert(header.provenance, Provenance)
    except (msgspec.ValidationError, OverflowError) as error:
        raise _damaged(store, header) from error
    labels = [cluster.label for cluster in provenance.clusters]
    if not provenance.k == len(provenance.sizes) == len(header.clusters) or labels != list(range(provenance.k)):
        raise _damaged(store, header)
    return provenance


def _damaged(store: Store, header: ClusteringHeader) -> IndexDamaged:
    return IndexDamaged(f"{store.catalogue.path} is damaged: the provenance of clustering {header.id} is not valid")


def _summary(header: ClusteringHeader, provenance: Provenance, names: Mapping[int, str | None]) -> ClusteringSummary:
    return ClusteringSummary(
        id=header.id,
        made_at=header.made_at,
        k=provenance.k,
        seed=provenance.seed,
        images=provenance.trained_on,
        objective=provenance.objective,
        recipe=provenance.recipe,
        seconds=provenance.seconds,
        names=tuple(names.get(id) for id in header.clusters),
        edited_from=edited_from(provenance.options),
    )


def _details(fit: Fit) -> dict[str, Vectors]:
    """Return the columns of a fit under the names that they are stored by."""
    columns = {"distance": fit.distances, "second": fit.second_labels.astype(np.float32), "margin": fit.margins}
    return columns | ({"silhouette": fit.silhouettes} if len(fit.silhouettes) else {})


def _fit(details: dict[str, Vectors]) -> Fit:
    silhouettes = details.get("silhouette", np.empty(0, np.float32))
    return Fit(details["distance"], details["second"].astype(np.int64), details["margin"], silhouettes)


def _reason(error: Exception) -> str:
    if isinstance(error, ImgindexError):
        return f"{error}; {error.hint}" if error.hint else str(error)
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
