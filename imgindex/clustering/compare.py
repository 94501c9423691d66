"""How far a clustering agrees with another clustering, or with known classes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from imgindex.clustering.history import load_clustering
from imgindex.clustering.tracking import match_clusters
from imgindex.errors import SampleMismatch
from imgindex.export.submission import image_ids, match_ids
from imgindex.results import ClusteringDiff, Evaluation, MovedImage
from imgindex.storage.store import Store
from imgindex.vectors.rows import Labels


@dataclass(frozen=True, slots=True)
class Agreement:
    """Scores of a labelling against another one; all are at most 1, which is full agreement.

    ari: adjusted Rand index (Hubert and Arabie 1985), 0 on average by chance. nmi: mutual information over the mean
    entropy. homogeneity: each cluster holds one class alone; completeness: each class lies in one cluster; v_measure:
    their harmonic mean (Rosenberg and Hirschberg 2007), which equals the nmi. purity: share of images in the class that
    is most frequent in their cluster.
    """

    ari: float
    nmi: float
    homogeneity: float
    completeness: float
    v_measure: float
    purity: float


def agreement(clusters: Labels, classes: Labels) -> Agreement:
    """Score the labels (n,) of clusters against those of classes; no images agree fully."""
    from sklearn import metrics

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of more classes than half the images, as folders may well be
        ari = metrics.adjusted_rand_score(classes, clusters)
        nmi = metrics.normalized_mutual_info_score(classes, clusters)
        homogeneity, completeness, v_measure = metrics.homogeneity_completeness_v_measure(classes, clusters)
    counts = metrics.cluster.contingency_matrix(clusters, classes, sparse=True)
    purity = counts.max(axis=1).sum() / len(clusters) if len(clusters) else 1.0
    return Agreement(
        *(float(score) for score in (ari, nmi, homogeneity, completeness, v_measure, purity)),
    )


def diff(store: Store, a: int, b: int) -> ClusteringDiff:
    """Compare two clusterings on the images that both have. Raises ClusteringNotFound, IndexDamaged."""
    clustering_a, clustering_b = load_clustering(store, a), load_clustering(store, b)
    _, in_a, in_b = np.intersect1d(clustering_a.ids, clustering_b.ids, assume_unique=True, return_indices=True)
    labels_a, labels_b = clustering_a.labels[in_a], clustering_b.labels[in_b]
    scores = agreement(labels_a, labels_b)
    same = {label_a: label_b for label_b, label_a in match_clusters(labels_a, labels_b, same=0).items()}
    expected_b = np.array([same.get(label, -1) for label in range(clustering_a.k)])
    moved = np.flatnonzero(expected_b[labels_a] != labels_b)
    return ClusteringDiff(
        a=a,
        b=b,
        images=len(in_a),
        ari=scores.ari,
        nmi=scores.nmi,
        partners=same,
        moved=tuple(
            MovedImage(
                path=clustering_b.paths[in_b[place]],
                label_a=int(labels_a[place]),
                label_b=int(labels_b[place]),
                name_a=clustering_a.clusters[labels_a[place]].name,
                name_b=clustering_b.clusters[labels_b[place]].name,
                id=int(clustering_b.ids[in_b[place]]),
            )
            for place in moved.tolist()
        ),
        only_a=len(clustering_a.ids) - len(in_a),
        only_b=len(clustering_b.ids) - len(in_b),
    )


def evaluate(
    store: Store,
    id: int | None,
    truth: Mapping[str, str] | None,
    *,
    id_kind: str | None,
    relative_to: str | None = None,
    header: str | None = None,
) -> Evaluation:
    """Compare a clustering (None: the newest) with the class of each ImageID.

    truth: ImageID → class; None takes the name of an image's folder as its class. header: what its
    table has above the ids. Raises ClusteringNotFound,
    IndexDamaged, UsageError; SampleMismatch where no image has one of the ids.
    """
    clustering = load_clustering(store, id)
    paths = clustering.paths
    if truth is None:
        class_by_path = {path: os.path.basename(os.path.dirname(path)) for path in paths}
        unknown: tuple[str, ...] = ()
    else:
        ids = image_ids(paths, id_kind or clustering.label_format.id, relative_to=relative_to)
        kind = id_kind or clustering.label_format.id
        found = match_ids(truth, ids, header=header, kind=kind, relative_to=relative_to)
        unknown = tuple(image_id for image_id in truth if image_id not in found)
        class_by_path = {ids[found[image_id]]: name for image_id, name in truth.items() if image_id in found}
        if not class_by_path:
            raise SampleMismatch(
                "no image of the clustering has one of these ids",
                hint="choose what the ids are with `id_kind=` stem, name or path",
            )
    labelled = np.array([path in class_by_path for path in paths], bool)
    classes, class_numbers = _numbered([class_by_path[path] for path in paths if path in class_by_path])
    labels = clustering.labels[labelled]
    confusion = np.zeros((clustering.k, len(classes)), np.int64)
    np.add.at(confusion, (labels, class_numbers), 1)
    return Evaluation(
        clustering=clustering.id or 0,
        images=int(labelled.sum()),
        **asdict(agreement(labels, class_numbers)),
        classes=classes,
        clusters=clustering.clusters,
        confusion=confusion,
        unlabelled=int((~labelled).sum()),
        unknown=unknown,
    )


def _numbered(names: list[str]) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Return the distinct names, sorted, and the place of each name among them."""
    distinct = sorted(set(names))
    place = {name: position for position, name in enumerate(distinct)}
    return tuple(distinct), np.array([place[name] for name in names], np.int64)
