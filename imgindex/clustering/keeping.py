"""Clusterings go into the index with their receipts, come back from it, and keep what is still the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from imgindex.analysis.fit import fit
from imgindex.analysis.points import Points
from imgindex.answers.clusterings import Cluster, Clustering, ClusteringSummary, Fit, Form, KScore
from imgindex.clustering.lasting import Wish, before_of, compared, lasting_ids
from imgindex.embedding.recipe import Recipe
from imgindex.errors import ImgindexError, IndexDamaged, IndexLocked
from imgindex.storage import clusterings
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.clusterings import Head, Ids, Kept, Members
from imgindex.storage.store import Store
from imgindex.types import Vectors

RECEIPT: tuple[str, ...] = ("k", "seed", "objective", "iterations", "restarts", "restart_objectives", "converged")
RECEIPT += ("sizes", "trained_on", "seconds", "recipe", "recipe_digest", "versions", "options")
# Extras of a CSV that are told by the vectors.
OF_VECTORS = frozenset({"distance", "margin", "second", "silhouette"})


def keep(store: Store, found: Clustering, wish: Wish, *, wait: Callable[[], bool]) -> Clustering:
    """Record a clustering whose clusters, where they are still the same, keep ids and names of the newest one before.

    An index that cannot be written to now is no error: the clustering then says why it is not kept.
    """
    found = replace(found, recipe=Recipe.from_json(store.recipe_json).name)
    try:
        with store.writing(wait=wait) as writer, writer.catalogue.atomic():
            return _keep(writer.catalogue, found, wish)
    except (IndexLocked, IndexDamaged, OSError, sqlite3.Error) as error:
        with store.reading():
            before = before_of(store.catalogue, found)
            return replace(compared(found, before, lasting_ids(found, before, wish), wish), not_kept=_reason(error))


def restore(store: Store, id: int | None) -> Clustering:
    """Return a clustering as it was kept, the newest for None, with the names of today.

    Raises ClusteringNotFound, IndexDamaged.
    """
    with store.catalogue.snapshot():
        kept = clusterings.read(store.catalogue, id)
        names = clusterings.names(store.catalogue)
    return _restored(store, kept, names)


def summaries(store: Store) -> list[ClusteringSummary]:
    """Return all clusterings that are kept, the oldest first. Raises IndexDamaged."""
    with store.catalogue.snapshot():
        names = clusterings.names(store.catalogue)
        heads = clusterings.heads(store.catalogue)
    return [_summary(store, head, names) for head in heads]


def fitted(store: Store, clustering: Clustering, *, silhouettes: bool) -> Clustering:
    """Return a clustering that says of each image how well it lies in its cluster, by the vectors of today.

    NaN, and −1 for a label, where there is no vector any more. Raises IndexDamaged.
    """
    if clustering.fit is not None and (len(clustering.fit.silhouettes) or not silhouettes):
        return clustering
    with store.reading():
        points = Points.stored(store.blocks(clustering.ids), store.segments.dimension)
        there = np.isin(clustering.ids, store.catalogue.places()[:, 0])
    some = fit(points, clustering.labels[there], clustering.centroids, silhouettes=silhouettes)
    columns = [np.full(len(there), np.nan, np.float32) for _ in range(3)]
    seconds = np.full(len(there), -1, np.int64)
    seconds[there] = some.seconds
    for column, values in zip(columns, (some.distances, some.margins, some.silhouettes), strict=True):
        column[there] = values if len(values) else np.nan
    return replace(clustering, fit=Fit(columns[0], seconds, columns[1], columns[2] if silhouettes else columns[2][:0]))


def clusters_of(labels: Ids, head: Head, names: Mapping[int, str | None]) -> tuple[Cluster, ...]:
    """Return the clusters of a clustering with the sizes that labels (n,) give them."""
    sizes = np.bincount(labels[labels >= 0], minlength=len(head.clusters)).tolist()
    return tuple(Cluster(label, id, names.get(id), sizes[label]) for label, id in enumerate(head.clusters))


def _keep(catalogue: Catalogue, found: Clustering, wish: Wish) -> Clustering:
    before = before_of(catalogue, found)
    lasting = [id or clusterings.new_cluster(catalogue) for id in lasting_ids(found, before, wish)]
    for label, name in wish.names.items():
        clusterings.name(catalogue, lasting[label], name)
    found = compared(found, before, lasting, wish)
    receipt: dict[str, Any] = {name: getattr(found, name) for name in RECEIPT}
    receipt |= {"curve": [asdict(score) for score in found.curve], "since": found.since}
    receipt |= {"clusters": [asdict(cluster) for cluster in found.clusters]}
    receipt |= {"gone": [asdict(cluster) for cluster in found.gone]}
    receipt |= {"form": {"id": found.form.id, "extras": list(found.form.extras)}}
    kept = Kept(
        Head(0, "", receipt, tuple(lasting)),
        found.centroids,
        Members(found.ids, found.labels, wish.crcs),
        found.paths,
        {} if found.fit is None else _details(found.fit),
        found.form.like,
    )
    head = clusterings.keep(catalogue, kept)
    return replace(found, id=head.id, made_at=head.made_at)


def _restored(store: Store, kept: Kept, names: Mapping[int, str | None]) -> Clustering:
    head, receipt = kept.head, kept.head.receipt
    try:
        told = {name: receipt[name] for name in RECEIPT}
        _check_kinds(told, receipt, len(head.clusters))
        for name in ("sizes", "restart_objectives"):
            told[name] = tuple(told[name])
        form = Form(receipt["form"]["id"], kept.sample, tuple(receipt["form"]["extras"]))
        clusters = tuple(replace(Cluster(**one), name=names.get(one["id"])) for one in receipt["clusters"])
        return Clustering(
            **told,
            ids=kept.members.ids,
            paths=kept.paths,
            labels=kept.members.labels,
            centroids=kept.centroids,
            curve=tuple(KScore(**score) for score in receipt["curve"]),
            made_at=head.made_at,
            id=head.id,
            clusters=clusters,
            since=receipt["since"],
            gone=tuple(Cluster(**one) for one in receipt["gone"]),
            form=form,
            fit=_fit(kept.details) if kept.details else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _senseless(store, head) from error


COUNTS, NUMBERS, TEXTS = ("k", "seed", "iterations", "restarts", "trained_on"), ("objective", "seconds"), ("recipe",)


def _check_kinds(told: Mapping[str, Any], receipt: Mapping[str, Any], k: int) -> None:
    """Raise ValueError for a receipt that somebody else made up."""
    counts = [*(told[name] for name in COUNTS), *told["sizes"], receipt["since"] or 0]
    numbers = [*(told[name] for name in NUMBERS), *told["restart_objectives"]]
    labels = [one["label"] for one in receipt["clusters"]]
    if (
        not all(type(count) is int and 0 <= count < 2**53 for count in counts)
        or not all(isinstance(number, int | float) and abs(number) < 1e300 for number in numbers)
        or not all(isinstance(told[name], str) for name in TEXTS)
        or not all(isinstance(told[name], dict) for name in ("versions", "options"))
        or not (told["k"] == len(told["sizes"]) == k and labels == list(range(k)))
    ):
        raise ValueError("a receipt that cannot be")
    for one in (*receipt["clusters"], *receipt["gone"]):
        whole = [one["label"], one["id"], one["size"], one["was"] or 0, one["came"], one["left"]]
        if not all(type(count) is int for count in whole) or not isinstance(one["moved"], int | float):
            raise ValueError("clusters that cannot be")
    for score in receipt["curve"]:
        if type(score["k"]) is not int or not all(isinstance(value, int | float) for value in score.values()):
            raise ValueError("a curve that cannot be")


def _summary(store: Store, head: Head, names: Mapping[int, str | None]) -> ClusteringSummary:
    receipt = head.receipt
    try:
        return ClusteringSummary(
            id=head.id,
            made_at=head.made_at,
            k=receipt["k"],
            seed=receipt["seed"],
            images=receipt["trained_on"],
            objective=float(receipt["objective"]),
            recipe=receipt["recipe"],
            seconds=float(receipt["seconds"]),
            names=tuple(names.get(id) for id in head.clusters),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _senseless(store, head) from error


def _senseless(store: Store, head: Head) -> IndexDamaged:
    return IndexDamaged(f"{store.catalogue.path} is damaged: the receipt of clustering {head.id} does not make sense")


def _details(fit: Fit) -> dict[str, Vectors]:
    columns = {"distance": fit.distances, "second": fit.seconds.astype(np.float32), "margin": fit.margins}
    return columns | ({"silhouette": fit.silhouettes} if len(fit.silhouettes) else {})


def _fit(details: dict[str, Vectors]) -> Fit:
    silhouettes = details.get("silhouette", np.empty(0, np.float32))
    return Fit(details["distance"], details["second"].astype(np.int64), details["margin"], silhouettes)


def _reason(error: Exception) -> str:
    if isinstance(error, ImgindexError):
        return f"{error}; {error.hint}" if error.hint else str(error)
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
