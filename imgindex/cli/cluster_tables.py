"""Clusterings as tables and JSON: sizes, provenance, assignments, comparisons, and their summaries in words."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from imgindex.cli.output import count, duration
from imgindex.export import documents
from imgindex.export.tables import Table
from imgindex.results import Assignment, Cluster, Clustering, ClusteringDiff, Evaluation

SCORES = ("ari", "nmi", "homogeneity", "completeness", "v_measure", "purity")
# The smallest number of clusters that has a silhouette.
SMALLEST = 2
# The share of copies from which a choice of k is doubtful.
MANY_COPIES = 0.05
# How many classes of a cluster a table names.
CLASSES = 3


def sizes(clustering: Clustering) -> Table:
    """Return a row a cluster: label, lasting id, name, size, and what changed since the previous clustering."""
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
    return Table(documents.clustering(clustering), rows, columns)


def summary(clustering: Clustering) -> str:
    """Return one line: how many images are in how many clusters, how long that took, and why k was chosen."""
    images, clusters = count(clustering.trained_on, "image"), count(clustering.k, "cluster")
    smoothed = " of averaged vectors" if clustering.smooth else ""
    made = f"{images} in {clusters}{smoothed}, {duration(clustering.seconds)}"
    if not clustering.curve:
        return made
    best = next(score for score in clustering.curve if score.k == clustering.k)
    if len(clustering.curve) == 1:
        return f"{made}; no other number was tried (silhouette {best.silhouette:.3f})"
    tried = f"{clustering.curve[0].k} to {clustering.curve[-1].k}"
    return f"{made}; of {tried} clusters, {best.k} have the greatest silhouette ({best.silhouette:.3f})"


def advice(clustering: Clustering) -> list[str]:
    """Return lines on how far the choice of k can be trusted: the edge of the range, the knee, and copies."""
    if not clustering.curve:
        return []
    first, last = clustering.curve[0].k, clustering.curve[-1].k
    lines = []
    if clustering.k == last:
        line = f"{last} is the greatest number that was tried"
        most = min(2 * last, clustering.trained_on - 1)
        more = f", and more clusters may fit better: try -k {last}..{most}" if most > last else ""
        lines.append(line + (more or f": there are only {count(clustering.trained_on, 'image')}"))
    elif clustering.k == first == SMALLEST:
        lines.append("2 is the smallest number that can be chosen: the images may not form clusters")
    elif clustering.k == first:
        line = f"{first} is the smallest number that was tried, and fewer clusters may fit better"
        lines.append(f"{line}: try -k {SMALLEST}..{first}")
    if (bend := clustering.knee) is not None:
        also = ", too" if bend == clustering.k else ""
        lines.append(f"the curve of the objective has its knee at {count(bend, 'cluster')}{also}")
    if clustering.copies >= MANY_COPIES:
        share = (
            f"{clustering.copies:.0%} of the images are copies of another one, or nearly, which raises the silhouette"
        )
        lines.append(f"{share}: `imgindex duplicates` lists copies")
    return lines


def drift(clustering: Clustering) -> str | None:
    """Return one line on what became of the clusters of the previous clustering; None if there is no previous one."""
    if clustering.since is None:
        return None
    new = [cluster for cluster in clustering.clusters if cluster.was is None]
    same = len(clustering.clusters) - len(new)
    be = "is" if same == 1 else "are"
    line = f"{same} of {count(clustering.k, 'cluster')} {be} still the same as in clustering {clustering.since}"
    if new:
        line += f"; new: {', '.join(map(_name, new))}"
    if clustering.gone:
        gone = (f"{_name(cluster)} ({count(cluster.size, 'image')})" for cluster in clustering.gone)
        line += f"; gone: {', '.join(gone)}"
    return line


def _name(cluster: Cluster) -> str:
    """Return the name of a cluster, or its label if it has none."""
    return repr(cluster.name) if cluster.name else str(cluster.label)


def assignment(found: Assignment) -> Table:
    """Return a row an image that was put into a cluster, with the distance and the margin to the second one."""
    rows = [
        {
            **asdict(one),
            "name": one.name or "",
            "second": "" if one.second is None else one.second,
            "margin": "" if one.margin is None else one.margin,
        }
        for one in found.assigned
    ]
    columns = ["path", "label", "distance", "margin", "second", "id"]
    if any(one.name for one in found.assigned):
        columns.insert(2, "name")
    data = {**documents.clustering(found.clustering), "assigned": [asdict(one) for one in found.assigned]}
    return Table(data, rows, columns)


def diff(found: ClusteringDiff) -> Table:
    """Return a row an image that moved."""
    in_a, in_b = f"in {found.a}", f"in {found.b}"
    rows = [
        {"path": one.path, in_a: one.name_a or one.label_a, in_b: one.name_b or one.label_b, "id": one.id}
        for one in found.moved
    ]
    return Table(documents.diff(found), rows, ["path", in_a, in_b, "id"])


def scores(found: Evaluation) -> Table:
    """Return a row a score."""
    rows = [{"score": name, "value": getattr(found, name)} for name in SCORES]
    return Table(_evaluation(found), rows, ["score", "value"])


def confusion(found: Evaluation) -> Table:
    """Return a row a cluster and a column a class: how many images."""
    columns = _class_columns(found)
    rows = [
        {"label": cluster.label, "name": cluster.name or "", **dict(zip(columns, counts, strict=True))}
        for cluster, counts in zip(found.clusters, found.confusion.tolist(), strict=True)
    ]
    return Table(_evaluation(found), rows, ["label", "name", *columns])


def classes(found: Evaluation) -> Table:
    """Return a row a cluster: the classes that most of its images have, and the share of the first."""
    rows = []
    for cluster, counts in zip(found.clusters, found.confusion.tolist(), strict=True):
        order = sorted((at for at, number in enumerate(counts) if number), key=lambda at: (-counts[at], at))
        names = [f"{found.classes[at]} {counts[at]:,}" for at in order[:CLASSES]]
        if others := sum(counts[at] for at in order[CLASSES:]):
            names.append(f"others {others:,}")
        rows.append(
            {
                "label": cluster.label,
                "name": cluster.name or "",
                "images": sum(counts),
                "of one class": f"{counts[order[0]] / sum(counts):.0%}" if order else "",
                "classes": ", ".join(names),
            }
        )
    columns = ["label", *(["name"] if any(cluster.name for cluster in found.clusters) else [])]
    return Table(_evaluation(found), rows, [*columns, "images", "of one class", "classes"])


def _class_columns(found: Evaluation) -> list[str]:
    """Return the names of the classes as columns, which must differ from the columns of the clusters."""
    return [f"class {name}" if name in ("label", "name") else name for name in found.classes]


def _evaluation(found: Evaluation) -> dict[str, Any]:
    data = {name: getattr(found, name) for name in ("clustering", "images", *SCORES, "classes")}
    data |= {"confusion": found.confusion.tolist(), "clusters": [asdict(cluster) for cluster in found.clusters]}
    return {**data, "unlabelled": found.unlabelled, "unknown": list(found.unknown)}
