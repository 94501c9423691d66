"""Edits clusterings by hand: merges clusters, splits one, and moves images. Each edit is a clustering of its own.

The clusters that an edit does not touch keep their images, ids, names and centroids; those that it touches get the
means of their images as centroids. So the clustering before is still there, and undoing an edit is deleting it.
"""

from __future__ import annotations

import numbers
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from imgindex.clustering.history import VECTOR_COLUMNS, from_stored, is_smooth, keep, load_clustering, software_versions
from imgindex.clustering.kmeans import kmeans
from imgindex.clustering.lloyd import Lloyd, distances
from imgindex.clustering.metrics import measure_fit
from imgindex.clustering.seeding import anchored_centroids
from imgindex.clustering.tracking import PreviousClustering, check_name
from imgindex.errors import ClusteringNotFound, PathNotFound, UsageError
from imgindex.recipe import Recipe
from imgindex.results import Clustering, edited_from
from imgindex.search.smoothed import vector_rows
from imgindex.search.upkeep import update_search_files
from imgindex.storage import clusterings
from imgindex.storage.clusterings import ClusteringHeader
from imgindex.storage.named import find_named
from imgindex.storage.store import Store
from imgindex.types import Ids, Vectors
from imgindex.vectors.rows import Labels, VectorRows


@dataclass(frozen=True, slots=True)
class Source:
    """The clustering that is edited, with the images that it has now, in the order of ids (n).

    stored: as it was stored, with its header. labels (n,) and crcs (n,): also of images that were assigned later.
    names: of all clusters, by id. points: the vectors (n, dimension) that were clustered.
    """

    stored: Clustering
    header: ClusteringHeader
    ids: Ids
    labels: Labels
    crcs: Ids
    names: Mapping[int, str | None]
    points: VectorRows

    @property
    def cluster_ids(self) -> list[int]:
        """The id of the cluster of each label."""
        return [cluster.id for cluster in self.stored.clusters]

    def members(self, label: int) -> npt.NDArray[np.int64]:
        """Return the places of the images of a cluster."""
        return np.flatnonzero(self.labels == label)

    def label_of(self, cluster: int | str) -> int:
        """Return the label of a cluster that is given by its label or its name. Raises UsageError."""
        names = [one.name for one in self.stored.clusters]
        if isinstance(cluster, str):
            if cluster in names:
                return names.index(cluster)
            known = ", ".join(repr(name) for name in names if name)
            hint = f"its names are {known}" if known else "its clusters have no names: give labels"
            raise UsageError(f"clustering {self.stored.id} has no cluster called {cluster!r}", hint=hint)
        if isinstance(cluster, bool) or not isinstance(cluster, numbers.Integral):
            raise UsageError(f"a cluster is given by its label or its name, not by {cluster!r:.80}")
        if not 0 <= cluster < len(names):
            raise UsageError(
                f"clustering {self.stored.id} has no label {cluster}", hint=f"its labels are 0 to {len(names) - 1}"
            )
        return int(cluster)


@dataclass(frozen=True, slots=True)
class Edit:
    """What an edit makes of a clustering.

    kind: merge, split or move. details: for the provenance. labels (n,): new ones, in which a cluster of the source has
    the label that it had, and numbers may be missing. cluster_ids: for each label the id of its cluster, 0 for a new
    one. touched: the labels whose images are others now. names: of new clusters, by label.
    """

    kind: str
    details: Mapping[str, Any]
    labels: Labels
    cluster_ids: Sequence[int]
    touched: frozenset[int]
    names: Mapping[int, str] = field(default_factory=dict)


def merge(store: Store, clusters: Sequence[int | str], *, id: int | None, wait: Callable[[], bool]) -> Clustering:
    """Make one cluster of several; it continues the first of them that has a name, or the first."""

    def change(source: Source) -> Edit:
        labels = [source.label_of(cluster) for cluster in clusters]
        if len(labels) < 2:
            raise UsageError("one cluster alone cannot be merged", hint="give two clusters or more")
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise UsageError(f"cluster {twice} is given twice", hint="give different clusters")
        kept = next((label for label in labels if source.stored.clusters[label].name), labels[0])
        merged = np.where(np.isin(source.labels, labels), kept, source.labels)
        return Edit("merge", {"labels": labels}, merged, source.cluster_ids, frozenset([kept]))

    return _edit(store, id, change, wait)


def split(
    store: Store,
    cluster: int | str,
    k: int | None,
    *,
    anchors: Callable[[bool], Mapping[str, Vectors]],
    seed: int,
    id: int | None,
    wait: Callable[[], bool],
) -> Clustering:
    """Make several clusters of one by k-means. The largest continues it, unless anchors name the parts.

    k: None for as many as there are anchors, or 2. anchors: given whether vectors are averaged, returns the vectors
    (m, dimension) of the examples by name.
    """
    examples = anchors(is_smooth(store, id))
    for name in examples:
        check_name(name)

    def change(source: Source) -> Edit:
        label = source.label_of(cluster)
        members = source.members(label)
        parts = k if k is not None else (len(examples) or 2)
        if parts < 2:
            raise UsageError(f"a cluster cannot be split into {parts}", hint="give 2 or more, or two anchors")
        if parts > len(members):
            images = f"{len(members)} image{'' if len(members) == 1 else 's'}"
            raise UsageError(
                f"cluster {label} has {images}, and cannot be split into {parts}",
                hint=f"give at most {len(members)}" if len(members) > 1 else "choose a larger cluster",
            )
        points = source.points.take(members)
        start = anchored_centroids(points, list(examples.values()), parts, seed=seed) if examples else None
        found = kmeans(points, parts, seed=seed, init=start)
        names = {part: list(examples)[row] for part, row in enumerate(found.init_rows) if row < len(examples)}
        # The parts follow the labels of the source; the largest takes the place of the cluster.
        count = source.stored.k
        of_part = np.array([label, *range(count, count + parts - 1)])
        labels = source.labels.copy()
        labels[members] = of_part[found.labels]
        cluster_ids = [*source.cluster_ids, *[0] * (parts - 1)]
        new_names = {int(of_part[part]): name for part, name in names.items()}
        _continue_named(source, label, cluster_ids, new_names)
        details: dict[str, Any] = {"labels": [label], "k": parts, "seed": seed}
        details |= {"anchors": sorted(examples)} if examples else {}
        return Edit("split", details, labels, cluster_ids, frozenset(of_part.tolist()), new_names)

    return _edit(store, id, change, wait)


def move(
    store: Store,
    ids: Sequence[int],
    paths: Sequence[str],
    to: int | str,
    *,
    id: int | None,
    wait: Callable[[], bool],
) -> Clustering:
    """Move images to a cluster: those with these ids, and those at these absolute paths or below them."""

    def change(source: Source) -> Edit:
        target = source.label_of(to)
        named = find_named(store.catalogue, paths)
        for path in named.unknown:
            raise PathNotFound(f"the index has no image at {path}", hint="`imgindex list` shows the images that it has")
        wanted = np.unique(np.array([*ids, *named.images], np.int64))
        if not len(wanted):
            raise UsageError("no image is given", hint="give paths or ids of images")
        missing = wanted[~np.isin(wanted, source.ids)]
        if len(missing):
            raise _not_in_clustering(store, source, int(missing[0]))
        moved = np.isin(source.ids, wanted)
        left = np.unique(source.labels[moved & (source.labels != target)])
        if not len(left):
            raise UsageError(f"cluster {target} has all of these images already", hint="choose another cluster")
        labels = np.where(moved, target, source.labels)
        empty = next((label for label in left.tolist() if label not in labels), None)
        if empty is not None:
            raise UsageError(
                f"cluster {empty} would be left without images",
                hint=f"merge it instead, with `imgindex clusterings merge {target} {empty}`",
            )
        details = {"labels": [target], "images": int((source.labels[moved] != target).sum())}
        return Edit("move", details, labels, source.cluster_ids, frozenset([target, *left.tolist()]))

    return _edit(store, id, change, wait)


def undo(store: Store, id: int | None, *, wait: Callable[[], bool]) -> Clustering:
    """Delete an edited clustering (None: the newest), and return the one that it was made from.

    Raises ClusteringNotFound, UsageError where no edit made it, or it was edited again; IndexLocked.
    """
    with store.writing(wait=wait) as writer:
        with store.reading():
            edited = load_clustering(store, id)
            before = edited.edited_from
            headers = clusterings.headers(store.catalogue)
            if before is None:
                raise UsageError(
                    f"clustering {edited.id} was not made by an edit",
                    hint="`imgindex clusterings delete` deletes clusterings of any kind",
                )
            later = next(
                (one.id for one in headers if edited_from(one.provenance.get("options", {})) == edited.id), None
            )
            if later is not None:
                raise UsageError(
                    f"clustering {later} was made from clustering {edited.id}", hint=f"undo clustering {later} first"
                )
            if before not in (one.id for one in headers):
                raise ClusteringNotFound(
                    f"clustering {before}, which clustering {edited.id} was made from, was deleted",
                    hint="the edited clustering is the oldest that is left of it",
                )
        with writer.catalogue.atomic():
            assert edited.id is not None
            clusterings.drop(writer.catalogue, edited.id)
    return load_clustering(store, before)


def _edit(store: Store, id: int | None, change: Callable[[Source], Edit], wait: Callable[[], bool]) -> Clustering:
    """Store what an edit makes of a clustering. Raises ClusteringNotFound, UsageError, IndexLocked, IndexDamaged."""
    started = time.perf_counter()
    with store.writing(wait=wait) as writer:
        if is_smooth(store, id):
            update_search_files(store, writer, smooth=True)
        with store.reading():
            source = _read(store, id)
            edit = change(source)
            previous = PreviousClustering(
                source.header,
                source.stored.centroids,
                source.labels,
                source.names,
                {},
            )
            paths = store.catalogue.image_paths()
        found, order = _result(source, edit, [paths[image] for image in source.ids.tolist()])
        ids = [edit.cluster_ids[label] for label in order]
        names = {place: edit.names[label] for place, label in enumerate(order) if label in edit.names}
        found = replace(
            found,
            recipe=Recipe.from_json(store.recipe_json).name,
            seconds=round(time.perf_counter() - started, 3),
        )
        with writer.catalogue.atomic():
            return keep(writer.catalogue, found, ids, previous, crcs=source.crcs, names=names)


def _read(store: Store, id: int | None) -> Source:
    """Return a clustering with the images that it has now, those that were assigned later too."""
    kept = clusterings.read(store.catalogue, id)
    stored = from_stored(store, kept)
    now = clusterings.current_labels(store.catalogue, kept.header.id, kept.members, store.location_table())
    has_label = now.labels >= 0
    if not has_label.any():
        raise UsageError(
            f"the index has none of the images of clustering {stored.id} any more",
            hint="make a new one with `imgindex cluster -k auto`",
        )
    points = vector_rows(store, now.ids[has_label], smooth=stored.smooth)
    names = clusterings.names(store.catalogue)
    return Source(stored, kept.header, now.ids[has_label], now.labels[has_label], now.crcs[has_label], names, points)


def _result(source: Source, edit: Edit, paths: list[str]) -> tuple[Clustering, list[int]]:
    """Return the clustering that an edit makes, and for each of its labels the one that the edit gave."""
    count = len(edit.cluster_ids)
    sizes = np.bincount(edit.labels, minlength=count)
    order = [label for label in np.lexsort((np.arange(count), -sizes)).tolist() if sizes[label]]
    rank = np.zeros(count, np.int64)
    rank[order] = np.arange(len(order))
    labels = rank[edit.labels]
    centroids = np.empty((len(order), source.points.dimension), np.float32)
    for place, label in enumerate(order):
        if label in edit.touched:
            centroids[place] = _mean(source.points.take(np.flatnonzero(edit.labels == label)))
        else:
            centroids[place] = source.stored.centroids[label]
    label_format = source.stored.label_format
    if not np.array_equal(source.ids, source.stored.ids):
        label_format = replace(label_format, like=None)  # the sample has other images
    computed = VECTOR_COLUMNS & set(label_format.extras)
    options: dict[str, Any] = {"smooth": True} if source.stored.smooth else {}
    options["edit"] = {"of": source.stored.id, "kind": edit.kind, **edit.details}
    found = replace(
        source.stored,
        k=len(order),
        ids=source.ids,
        paths=paths,
        labels=labels,
        centroids=centroids,
        sizes=tuple(int(sizes[label]) for label in order),
        objective=float(distances(source.points, centroids, labels).sum()),
        iterations=0,
        restarts=0,
        restart_objectives=(),
        trained_on=len(source.ids),
        curve=(),
        copies=0.0,
        versions=software_versions(),
        options=options,
        label_format=label_format,
        fit=measure_fit(source.points, labels, centroids, silhouettes="silhouette" in computed) if computed else None,
    )
    return found, order


def _mean(points: VectorRows) -> Vectors:
    clusters = Lloyd(points, 1)
    clusters.adopt(np.zeros(len(points), np.int64))
    mean: Vectors = clusters.centroids[0]
    return mean


def _continue_named(source: Source, label: int, cluster_ids: list[int], names: dict[int, str]) -> None:
    """Let parts with names of anchors be the clusters that have these names, and no other part the cluster itself.

    Raises UsageError for the name of another cluster of the clustering.
    """
    if not names:
        return
    split_id, cluster_ids[label] = source.cluster_ids[label], 0
    for part, name in names.items():
        known = next((id for id, one in source.names.items() if one == name), 0)
        if known != split_id and known in source.cluster_ids:
            raise UsageError(
                f"cluster {source.cluster_ids.index(known)} is called {name!r} already",
                hint="give the anchor another name, or move the images there",
            )
        cluster_ids[part] = known


def _not_in_clustering(store: Store, source: Source, id: int) -> Exception:
    path = store.catalogue.image_paths([id]).get(id)
    if path is None:
        return PathNotFound(f"the index has no image with the id {id}", hint="`imgindex list` shows the ids")
    return UsageError(
        f"clustering {source.stored.id} does not have {path}",
        hint=f"put new images into it with `imgindex clusterings assign {source.stored.id}`",
    )
