"""What is said of clusterings: runs with their receipts, what changed between two, how right they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from imgindex.types import Vectors


@dataclass(frozen=True, slots=True)
class KScore:
    """How well k clusters fit.

    objective: as a share of that of one cluster, small when clusters are tight. silhouette: how much nearer an image's
    own cluster is than the next one, on average, −1…1. stability: how far starts from different seeds agree, by the
    adjusted Rand index, at most 1.
    """

    k: int
    objective: float
    silhouette: float
    stability: float


@dataclass(frozen=True, slots=True)
class Form:
    """How the labels of a clustering are written to a CSV.

    id: what an ImageID is, the stem, name or path of a file. like: the text of a sample submission whose columns, ids
    and order are copied. extras: columns beside the labels, of `EXTRAS` in reports/submission.py.
    """

    id: str = "stem"
    like: str | None = None
    extras: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fit:
    """How well each image (n,) lies in its cluster.

    distances: Euclidean, to the own centroid. seconds: the label of the nearest other centroid, −1 where there is
    none; margins: how much farther that one is, in even clusters maybe below 0. silhouettes: −1…1, against at most
    2,000 images evenly taken (Rousseeuw 1987); empty unless they were asked for.
    """

    distances: Vectors
    seconds: npt.NDArray[np.int64]
    margins: Vectors
    silhouettes: Vectors


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster of a clustering, and what became of it since the clustering before.

    id: lasts as long as the cluster is still the same. was: its label before, None for a new one. came and left: images
    of both clusterings that changed into it and out of it; moved: how far its centroid went, Euclidean.
    """

    label: int
    id: int
    name: str | None
    size: int
    was: int | None = None
    came: int = 0
    left: int = 0
    moved: float = 0.0


@dataclass(frozen=True, slots=True)
class Clustering:
    """One k-means run with its receipt.

    `labels` (n,) says the cluster of `paths[i]`, in the order of ids; 0 is the largest cluster.
    `objective` is the sum of squared Euclidean distances to the nearest centroid, over all n rows.
    `curve` says how well each k fits that was tried before k was chosen; it is empty where k was given.
    `id`: under which it is kept in the index; None where it could not be, and then `not_kept` says why.
    `clusters`: one for each label. `since`: the clustering that they were compared with, `gone`: its clusters that are
    no more. `fit`: how well each image lies in its cluster, where that was asked for.
    """

    k: int
    seed: int
    ids: npt.NDArray[np.int64]
    paths: list[str]
    labels: npt.NDArray[np.int64]
    centroids: Vectors
    sizes: tuple[int, ...]
    objective: float
    iterations: int
    restarts: int
    trained_on: int
    seconds: float
    curve: tuple[KScore, ...] = ()
    restart_objectives: tuple[float, ...] = ()
    converged: bool = True
    recipe: str = ""
    recipe_digest: str = ""
    made_at: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    id: int | None = None
    not_kept: str = ""
    clusters: tuple[Cluster, ...] = ()
    since: int | None = None
    gone: tuple[Cluster, ...] = ()
    form: Form = field(default_factory=Form)
    fit: Fit | None = None

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas DataFrame with the columns id, path, label, and those of the fit where it is known."""
        import pandas as pd

        columns: dict[str, Any] = {"id": self.ids, "path": self.paths, "label": self.labels}
        if any(cluster.name for cluster in self.clusters):
            columns["name"] = [self.clusters[label].name or "" for label in self.labels.tolist()]
        if self.fit is not None:
            columns |= {"distance": self.fit.distances, "second": self.fit.seconds, "margin": self.fit.margins}
            if len(self.fit.silhouettes):
                columns["silhouette"] = self.fit.silhouettes
        return pd.DataFrame(columns)


@dataclass(frozen=True, slots=True)
class ClusteringSummary:
    """A clustering that is kept, without its images: see `Clustering` for the fields."""

    id: int
    made_at: str
    k: int
    seed: int
    images: int
    objective: float
    recipe: str
    seconds: float
    names: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Assigned:
    """An image that was put into a cluster of an older clustering.

    distance: Euclidean, to that cluster's centroid; second: the label of the next one, margin: how much farther it is.
    """

    path: str
    label: int
    name: str | None
    distance: float
    second: int | None
    margin: float | None
    id: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where new images went: `clustering` with all images that the index shows now, `assigned` those that are new."""

    clustering: Clustering
    assigned: tuple[Assigned, ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """An image that stands in another cluster than before; labels and names of both."""

    path: str
    label_a: int
    label_b: int
    name_a: str | None
    name_b: str | None
    id: int


@dataclass(frozen=True, slots=True)
class ClusteringDiff:
    """How far two clusterings agree on the images that both have.

    ari and nmi: see analysis/agreement.py. partners: label of a → label of b that is the same cluster, as far as there
    is one. moved: images whose clusters are no partners. only_a, only_b: how many images one alone has.
    """

    a: int
    b: int
    images: int
    ari: float
    nmi: float
    partners: Mapping[int, int]
    moved: tuple[Moved, ...]
    only_a: int
    only_b: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How far a clustering agrees with what a person says; the scores are those of analysis/agreement.py.

    confusion: int64 (clusters, classes), how many images of each class are in which cluster.
    unlabelled: images that the truth does not speak of, unknown: ids of the truth that the clustering does not have.
    """

    clustering: int
    images: int
    ari: float
    nmi: float
    homogeneity: float
    completeness: float
    v_measure: float
    purity: float
    classes: tuple[str, ...]
    clusters: tuple[Cluster, ...]
    confusion: npt.NDArray[np.int64]
    unlabelled: int
    unknown: tuple[str, ...]
