"""The stored clusterings of an index, as a collection by id."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from imgindex.arguments import checked
from imgindex.clustering import compare, history, tracking
from imgindex.clustering.assign import assign
from imgindex.export.csv_input import read_text
from imgindex.export.submission import read_classes
from imgindex.results import Assignment, Cluster, Clustering, ClusteringDiff, ClusteringSummary, Evaluation
from imgindex.storage import clusterings
from imgindex.storage.paths import absolute
from imgindex.storage.store import Store
from imgindex.types import Path


@checked
class Clusterings:
    """The stored clusterings of an index, by id; iteration yields their summaries, the oldest first.

    >>> made = index.cluster(k=3)
    >>> made.id == index.clusterings.newest.id
    True
    >>> [summary.k for summary in index.clusterings][-1]
    3
    """

    def __init__(self, store: Store, *, wait: Callable[[], bool]) -> None:
        self._store = store
        self._wait = wait

    def __getitem__(self, id: int) -> Clustering:
        """Return a clustering as it was stored, with the names that its clusters have now.

        Raises ClusteringNotFound, IndexDamaged.
        """
        return history.load_clustering(self._store, id)

    @property
    def newest(self) -> Clustering:
        """The newest clustering. Raises ClusteringNotFound where there is none, IndexDamaged."""
        return history.load_clustering(self._store, None)

    def __iter__(self) -> Iterator[ClusteringSummary]:
        """Yield a summary of each clustering, the oldest first. Raises IndexDamaged."""
        return iter(history.summaries(self._store))

    def __len__(self) -> int:
        return len(history.summaries(self._store))

    def with_fit(self, clustering: Clustering) -> Clustering:
        """Return a clustering with its `fit`: how well each image fits its cluster, without silhouettes.

        An image that has no vector any more has NaN. Raises IndexDamaged.

        >>> made = index.cluster(k=3)
        >>> fit = index.clusterings.with_fit(made).fit
        >>> len(fit.distances) == len(made.ids)
        True
        """
        return history.with_fit(self._store, clustering, silhouettes=False)

    def delete(self, id: int) -> None:
        """Delete a clustering; the names of its clusters stay, for later clusterings that have the same clusters.

        Raises ClusteringNotFound, IndexLocked.
        """
        with self._store.writing(wait=self._wait) as writer, writer.catalogue.atomic():
            clusterings.drop(writer.catalogue, id)

    def assign(self, id: int | None = None) -> Assignment:
        """Put the images that a clustering (None: the newest) lacks into its nearest clusters, and store that.

        The images that it has stay where they are. An image that has changed since counts as one that it lacks.

        Raises ClusteringNotFound, IndexLocked, IndexDamaged.

        >>> made = index.cluster(k=3)
        >>> index.clusterings.assign(made.id).assigned
        ()
        """
        return assign(self._store, id, wait=self._wait)

    def rename_cluster(self, label: int, name: str | None, *, clustering: int | None = None) -> Cluster:
        """Name the cluster with a label of a clustering (None: the newest); later clusterings keep the name.

        name: None removes the name. Raises ClusteringNotFound, IndexLocked, and UsageError for an unknown label, an
        impossible name, or one that another cluster has.

        >>> made = index.cluster(k=3)
        >>> index.clusterings.rename_cluster(0, "largest").name
        'largest'
        >>> index.clusterings.newest.clusters[0].name
        'largest'
        >>> index.clusterings.rename_cluster(0, None).name is None
        True
        """
        return tracking.rename_cluster(self._store, label, name, id=clustering, wait=self._wait)

    def diff(self, a: int, b: int) -> ClusteringDiff:
        """Compare two clusterings on the images that both have. Raises ClusteringNotFound, IndexDamaged.

        >>> one, other = index.cluster(k=3), index.cluster(k=3)
        >>> index.clusterings.diff(one.id, other.id).ari
        1.0
        """
        return compare.diff(self._store, a, b)

    def evaluate(
        self,
        truth: Path | Mapping[str, str] | None = None,
        *,
        id_kind: str | None = None,
        clustering: int | None = None,
        relative_to: Path | None = None,
    ) -> Evaluation:
        """Compare a clustering (None: the newest) with known classes: ARI, NMI, V-measure, purity, confusion.

        truth: a CSV of ImageID and class, or such a mapping; None: the class of an image is the name of its folder.
        id_kind: what an ImageID is: stem, name or path; None: as in the clustering's own CSV. relative_to: the folder
        that an ImageID that is a path is relative to.

        Raises ClusteringNotFound, SampleMismatch where no id is known, UsageError, OSError, IndexDamaged.
        """
        header: str | None = None
        classes: Mapping[str, str] | None
        if truth is None or isinstance(truth, Mapping):
            classes = truth
        else:
            header, classes = read_classes(read_text(truth))
        return compare.evaluate(
            self._store,
            clustering,
            classes,
            header=header,
            id_kind=id_kind,
            relative_to=None if relative_to is None else absolute(relative_to),
        )
