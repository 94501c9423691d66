"""Clusterings in every format: sizes and what became of the clusters, labels, receipts, and comparisons."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from imgindex.answers.clusterings import Assignment, Cluster, Clustering, ClusteringDiff, Evaluation
from imgindex.reports.formats import Document

RECEIPT: tuple[str, ...] = ("id", "k", "seed", "objective", "iterations", "converged", "restarts", "restart_objectives")
RECEIPT += ("trained_on", "sizes", "seconds", "made_at", "recipe", "recipe_digest", "versions", "options", "not_kept")
SCORES = ("ari", "nmi", "homogeneity", "completeness", "v_measure", "purity")
# Classes of a cluster that a table names.
CLASSES = 3


def receipt(clustering: Clustering) -> dict[str, Any]:
    """Return what a clustering was made of and how, for JSON."""
    told = {name: getattr(clustering, name) for name in RECEIPT}
    told |= {"since": clustering.since, "clusters": [asdict(cluster) for cluster in clustering.clusters]}
    told |= {"gone": [asdict(cluster) for cluster in clustering.gone]} if clustering.gone else {}
    if clustering.curve:
        told["curve"] = [asdict(score) for score in clustering.curve]
    return told


def sizes(clustering: Clustering) -> Document:
    """Return one row a cluster: label, lasting id, name, size, and what changed since the clustering before."""
    columns = ["label", "cluster"]
    columns += ["name"] if any(cluster.name for cluster in clustering.clusters) else []
    columns += ["images"]
    columns += ["was", "came", "left"] if clustering.since is not None else []
    rows = [
        {
            "label": cluster.label,
            "cluster": cluster.id or "",
            "name": cluster.name or "",
            "images": cluster.size,
            "was": "new" if cluster.was is None else cluster.was,
            "came": cluster.came,
            "left": cluster.left,
        }
        for cluster in clustering.clusters
    ]
    return Document(receipt(clustering), rows, columns)


def summary(clustering: Clustering) -> str:
    """Say in one line what was clustered, how well, and why k is what it is."""
    said = (
        f"{clustering.trained_on} images, all of them trained on, into {clustering.k} clusters: "
        f"objective {clustering.objective:.6g} after {clustering.iterations} iterations, "
        f"best of {clustering.restarts} starts, seed {clustering.seed}, {clustering.seconds:.1f} s"
    )
    if clustering.curve:
        best = next(score for score in clustering.curve if score.k == clustering.k)
        tried = f"{clustering.curve[0].k} to {clustering.curve[-1].k}"
        said = f"of {tried} clusters, {best.k} have the greatest silhouette ({best.silhouette:.3f}); {said}"
    return said


def drift(clustering: Clustering) -> str | None:
    """Say in one line what became of the clusters of the clustering before; None where there is nothing to say."""
    if clustering.since is None:
        return None
    new = [cluster for cluster in clustering.clusters if cluster.was is None]
    same = len(clustering.clusters) - len(new)
    said = f"{same} of {clustering.k} clusters are still the same as in clustering {clustering.since}"
    if new:
        said += f"; new: {', '.join(map(called, new))}"
    if clustering.gone:
        said += f"; gone: {', '.join(f'{called(cluster)} ({cluster.size} images)' for cluster in clustering.gone)}"
    return said


def called(cluster: Cluster) -> str:
    """Return what a cluster is called: its name, else its label."""
    return repr(cluster.name) if cluster.name else str(cluster.label)


def assignment(found: Assignment) -> Document:
    """Return one row an image that was put into a cluster, with the distance and the margin to the second one."""
    rows = [{**asdict(one), "name": one.name or "", "second": "" if one.second is None else one.second,
             "margin": "" if one.margin is None else one.margin} for one in found.assigned]  # fmt: skip
    columns = ["path", "label", "distance", "margin", "second", "id"]
    if any(one.name for one in found.assigned):
        columns.insert(2, "name")
    data = {**receipt(found.clustering), "assigned": [asdict(one) for one in found.assigned]}
    return Document(data, rows, columns)


def diff(found: ClusteringDiff) -> Document:
    """Return one row an image that moved."""
    rows = [
        {
            "path": one.path,
            f"in {found.a}": one.name_a or one.label_a,
            f"in {found.b}": one.name_b or one.label_b,
            "id": one.id,
        }
        for one in found.moved
    ]
    return Document(asdict(found), rows, ["path", f"in {found.a}", f"in {found.b}", "id"])


def scores(found: Evaluation) -> Document:
    """Return one row a score."""
    rows = [{"score": name, "value": getattr(found, name)} for name in SCORES]
    return Document(_evaluation(found), rows, ["score", "value"])


def confusion(found: Evaluation) -> Document:
    """Return one row a cluster and one column a class: how many images."""
    rows = [
        {"label": cluster.label, "name": cluster.name or "", **dict(zip(_columns(found), counts, strict=True))}
        for cluster, counts in zip(found.clusters, found.confusion.tolist(), strict=True)
    ]
    return Document(_evaluation(found), rows, ["label", "name", *_columns(found)])


def classes(found: Evaluation) -> Document:
    """Return one row a cluster: which classes it holds most of, and the share of the first."""
    rows = []
    for cluster, counts in zip(found.clusters, found.confusion.tolist(), strict=True):
        order = sorted(range(len(counts)), key=lambda at: (-counts[at], at))
        there = [at for at in order if counts[at]]
        told = ", ".join(f"{found.classes[at]} {counts[at]}" for at in there[:CLASSES])
        rest = sum(counts[at] for at in there[CLASSES:])
        share = f"{counts[order[0]] / sum(counts):.0%}" if there else ""
        row = {"label": cluster.label, "name": cluster.name or "", "images": sum(counts), "of one class": share}
        rows.append({**row, "classes": told + (f", others {rest}" if rest else "")})
    columns = ["label", *(["name"] if any(cluster.name for cluster in found.clusters) else [])]
    return Document(_evaluation(found), rows, [*columns, "images", "of one class", "classes"])


def _columns(found: Evaluation) -> list[str]:
    """The classes as columns, none of which may be taken for one of ours."""
    return [f"class {name}" if name in ("label", "name") else name for name in found.classes]


def _evaluation(found: Evaluation) -> dict[str, Any]:
    told = {name: getattr(found, name) for name in ("clustering", "images", *SCORES, "classes")}
    told |= {"confusion": found.confusion.tolist(), "clusters": [asdict(cluster) for cluster in found.clusters]}
    return {**told, "unlabelled": found.unlabelled, "unknown": list(found.unknown)}
