"""How far a clustering agrees with another one, or with what a person says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from imgindex.analysis.agreement import agreement, confusion
from imgindex.analysis.matching import partners
from imgindex.answers.clusterings import ClusteringDiff, Evaluation, Moved
from imgindex.clustering.keeping import restore
from imgindex.errors import SampleMismatch
from imgindex.reports.submission import image_ids
from imgindex.storage.paths import shown
from imgindex.storage.store import Store


def diff(store: Store, a: int, b: int) -> ClusteringDiff:
    """Compare two clusterings on the images that both have. Raises ClusteringNotFound, IndexDamaged."""
    one, other = restore(store, a), restore(store, b)
    _, in_a, in_b = np.intersect1d(one.ids, other.ids, assume_unique=True, return_indices=True)
    of_a, of_b = one.labels[in_a], other.labels[in_b]
    scores = agreement(confusion(of_a, of_b))
    same = {label_a: label_b for label_b, label_a in partners(of_a, of_b, same=0).items()}
    stays = np.array([same.get(label, -1) for label in range(one.k)])
    moved = np.flatnonzero(stays[of_a] != of_b)
    return ClusteringDiff(
        a=a,
        b=b,
        images=len(in_a),
        ari=scores.ari,
        nmi=scores.nmi,
        partners=same,
        moved=tuple(
            Moved(
                path=other.paths[in_b[place]],
                label_a=int(of_a[place]),
                label_b=int(of_b[place]),
                name_a=one.clusters[of_a[place]].name,
                name_b=other.clusters[of_b[place]].name,
                id=int(other.ids[in_b[place]]),
            )
            for place in moved.tolist()
        ),
        only_a=len(one.ids) - len(in_a),
        only_b=len(other.ids) - len(in_b),
    )


def evaluate(store: Store, id: int | None, truth: Mapping[str, str] | None, *, id_kind: str | None) -> Evaluation:
    """Compare a clustering (None: the newest) with the class of each ImageID; None: with the images' folders.

    Raises ClusteringNotFound, IndexDamaged, UsageError; SampleMismatch where no image has one of the ids.
    """
    found = restore(store, id)
    here = os.getcwd()
    paths = [shown(path, here=here) for path in found.paths]
    if truth is None:
        by_path = {path: os.path.basename(os.path.dirname(os.path.abspath(path))) for path in paths}
        unknown: tuple[str, ...] = ()
    else:
        ids = image_ids(paths, id_kind or found.form.id)
        unknown = tuple(one for one in truth if one not in ids)
        by_path = {ids[one]: name for one, name in truth.items() if one in ids}
        if not by_path:
            raise SampleMismatch("no image of the clustering has one of these ids", hint="is it another --id KIND?")
    told = np.array([path in by_path for path in paths], bool)
    classes = [by_path[path] for path in paths if path in by_path]
    names = sorted(set(classes))
    number = {name: position for position, name in enumerate(names)}
    counts = np.zeros((found.k, len(names)), np.int64)
    np.add.at(counts, (found.labels[told], np.array([number[name] for name in classes], np.int64)), 1)
    return Evaluation(
        clustering=found.id or 0,
        images=int(told.sum()),
        **asdict(agreement(counts)),
        classes=tuple(names),
        clusters=found.clusters,
        confusion=counts,
        unlabelled=int((~told).sum()),
        unknown=unknown,
    )
