"""The stored clusterings of an index, as a collection by id."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from imgindex.arguments import checked
from imgindex.clustering import compare, editing, history, tracking
from imgindex.clustering.assign import assign
from imgindex.export.csv_input import read_text
from imgindex.export.submission import read_classes
from imgindex.results import Assignment, Cluster, Clustering, ClusteringDiff, ClusteringSummary, Evaluation
from imgindex.storage import clusterings
from imgindex.storage.paths import absolute, as_list, as_written
from imgindex.storage.store import Store
from imgindex.types import Path, Vectors

if TYPE_CHECKING:
    from imgindex.search.image_inputs import ImageInput

# From the examples of anchors by name, and whether vectors are averaged, to their vectors by name.
ReadExamples = Callable[["Mapping[str, ImageInput | Iterable[ImageInput]]", bool], Mapping[str, Vectors]]


@checked
class Clusterings:
    """The stored clusterings of an index, by id; iteration yields their summaries, the oldest first.

    >>> made = index.cluster(k=3)
    >>> made.id == index.clusterings.newest.id
    True
    >>> [summary.k for summary in index.clusterings][-1]
    3
    """

    def __init__(self, store: Store, *, wait: Callable[[], bool], read_examples: ReadExamples) -> None:
        self._store = store
        self._wait = wait
        self._read_examples = read_examples

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

    def merge(self, clusters: Iterable[int | str], *, clustering: int | None = None) -> Clustering:
        """Make one cluster of several, each given by its label or its name, and keep the result as a new clustering.

        The new cluster continues the first of these that has a name, or the first if none has. All other clusters keep
        their images, ids and names; labels are again by falling size. clustering: the one to edit, None for the newest,
        which stays as it is. The images that were assigned to it are in the result, those that are gone are not.

        Raises ClusteringNotFound, UsageError for an unknown cluster or fewer than two, IndexLocked, IndexDamaged.

        >>> made = index.cluster(k=3)
        >>> merged = index.clusterings.merge([1, 2])
        >>> (merged.k, merged.edited_from == made.id)
        (2, True)
        >>> index.clusterings.undo().k
        3
        """
        return editing.merge(self._store, as_list(clusters), id=clustering, wait=self._wait)

    def split(
        self,
        cluster: int | str,
        k: int | None = None,
        *,
        anchors: Mapping[str, ImageInput | Iterable[ImageInput]] | None = None,
        seed: int = 42,
        clustering: int | None = None,
    ) -> Clustering:
        """Make k clusters of one, given by its label or its name, and keep the result as a new clustering.

        K-means among the images of the cluster finds the parts. The largest part continues the cluster, unless there
        are anchors. k: None for as many as there are anchors, or 2. anchors: images by the name of the part that begins
        with them, as in `ImageIndex.cluster`; a part with the name of the cluster continues it. clustering: as in
        `merge`.

        Raises ClusteringNotFound, UsageError, TooFewDistinctVectors for images that do not differ, UnreadableImage,
        IndexLocked, IndexDamaged.

        >>> made = index.cluster(k=2)
        >>> index.clusterings.split(0, k=2).k
        3
        >>> index.clusterings.undo().id == made.id
        True
        """
        return editing.split(
            self._store,
            cluster,
            k,
            anchors=lambda smooth: self._read_examples(anchors or {}, smooth),
            seed=seed,
            id=clustering,
            wait=self._wait,
        )

    def move(
        self, images: int | Path | Iterable[int | Path], to: int | str, *, clustering: int | None = None
    ) -> Clustering:
        """Move images to a cluster, given by its label or its name, and keep the result as a new clustering.

        images: paths of images or of folders, or ids. clustering: as in `merge`.

        Raises ClusteringNotFound, PathNotFound, UsageError for images that the clustering lacks, or where a cluster
        would be left without images; IndexLocked, IndexDamaged.

        >>> made = index.cluster(k=2)
        >>> moved = index.clusterings.move(made.paths[:1], to=1 - int(made.labels[0]))
        >>> len(index.clusterings.diff(made.id, moved.id).moved)
        1
        """
        given = as_list(images)
        is_id = [isinstance(one, numbers.Integral) and not isinstance(one, bool) for one in given]
        ids = [int(one) for one, known in zip(given, is_id, strict=True) if known]
        paths = [as_written(one) for one, known in zip(given, is_id, strict=True) if not known]
        return editing.move(self._store, ids, paths, to, id=clustering, wait=self._wait)

    def undo(self, *, clustering: int | None = None) -> Clustering:
        """Delete a clustering that an edit made (None: the newest), and return the one that was edited.

        Names that were given to clusters since stay. Raises ClusteringNotFound, UsageError for a clustering that no
        edit made or that was edited again, IndexLocked, IndexDamaged.

        >>> made = index.cluster(k=3)
        >>> merged = index.clusterings.merge([0, 1])
        >>> index.clusterings.undo(clustering=merged.id).id == made.id
        True
        """
        return editing.undo(self._store, clustering, wait=self._wait)

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
