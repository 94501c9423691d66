"""The clusterings of an index: made, kept, given names, added to, and compared."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

from imgindex.answers.clusterings import (
    Assignment,
    Cluster,
    Clustering,
    ClusteringDiff,
    ClusteringSummary,
    Evaluation,
    Form,
)
from imgindex.errors import UnreadableImage, UsageError
from imgindex.storage.paths import shown
from imgindex.storage.store import Store
from imgindex.types import Path

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from imgindex.embedding.sandbox import Decoders
    from imgindex.reports.formats import Document
    from imgindex.reports.submission import Submission
    from imgindex.types import Embedder, Engine, OnProgress, Vectors


class ClusterOptions(TypedDict, total=False):
    """What `cluster` may be asked besides the number of clusters, the seed and a condition."""

    restarts: int | None
    iterations: int | None
    init: Vectors | None
    anchors: Mapping[str, Iterable[Path]] | None
    balanced: bool
    max_size: int | None
    form: Form | None
    where: str | None
    on_progress: OnProgress | None


class Clusterings:
    """The half of an ImageIndex that clusters; an id of None means the newest clustering that is kept."""

    _store: Store
    _decoders: Decoders
    engine: Engine
    embedder: Embedder
    wait: bool

    def cluster(self, k: int | range | None = None, *, seed: int = 42, **options: Unpack[ClusterOptions]) -> Clustering:
        """Cluster images by FAISS k-means with Euclidean distance, and keep that; the same seed gives the same labels.

        k: a number, a range to choose from by the silhouette, or None for 2 to 40, or as many as there are anchors.
        restarts, iterations: see analysis/kmeans.py. init: centroids (k, dimension) to begin with. anchors: images by
        the name of the cluster that is to begin with them. balanced: sizes differ by one at most; max_size: none is
        larger. where: an SQL condition on the images that are clustered, see docs/questions.md. form: how labels are
        to be written; what is wrong with their ids is then said before the work.
        Clusters that are still the same as in the newest clustering before keep their ids and names.

        Raises TooFewDistinctVectors, UsageError, UnreadableImage, DeviceUnavailable, IndexDamaged. That the index
        cannot be written to is no error: see `Clustering.not_kept`.
        """
        from imgindex.clustering.run import Request, cluster

        if unknown := options.keys() - ClusterOptions.__annotations__.keys():
            raise TypeError(f"cluster() has no option {min(unknown)!r}")
        form = options.get("form")
        if form is not None:
            self._check(form, self._paths(options.get("where")))
        request = Request(
            k,
            seed,
            self.engine.device,
            restarts=options.get("restarts"),
            iterations=options.get("iterations"),
            init=options.get("init"),
            anchors={name: self._vectors_of(name, images) for name, images in (options.get("anchors") or {}).items()},
            balanced=options.get("balanced", False),
            max_size=options.get("max_size"),
            form=form or Form(),
            where=options.get("where"),
        )
        on_progress = options.get("on_progress") or (lambda progress: None)
        return _shown(cluster(self._store, request, wait=lambda: self.wait, on_progress=on_progress))

    def clusterings(self) -> list[ClusteringSummary]:
        """Return the clusterings that are kept, the oldest first. Raises IndexDamaged."""
        from imgindex.clustering.keeping import summaries

        return summaries(self._store)

    def clustering(self, id: int | None = None, *, extras: Iterable[str] | None = None) -> Clustering:
        """Return a clustering as it was made, with the images of then and the names of today.

        extras: other columns of its CSV than it was made with; what tells of vectors is told by those of today.
        Raises ClusteringNotFound, UsageError, IndexDamaged.
        """
        from imgindex.clustering.keeping import restore

        found = restore(self._store, id)
        if extras is not None:
            found = self.fitted(replace(found, form=replace(found.form, extras=tuple(extras))))
        return _shown(found)

    def fitted(self, clustering: Clustering) -> Clustering:
        """Return a clustering with what the extras of its form need told of its images, by the vectors of today.

        Raises UsageError for a column that there is not, IndexDamaged.
        """
        from imgindex.clustering.keeping import OF_VECTORS, fitted

        told = OF_VECTORS & set(clustering.form.extras)
        return fitted(self._store, clustering, silhouettes="silhouette" in told) if told else clustering

    def labels(self, clustering: Clustering) -> Document:
        """Return the CSV of a clustering in its form: `columns`, and `rows`, which know the path of each image, too.

        data: the same rows, with the name of the cluster where one has a name.
        Raises UsageError where two images have one ImageID, SampleMismatch.
        """
        from imgindex.reports.formats import Document
        from imgindex.reports.submission import labelled

        form = self._check(clustering.form, clustering.paths)
        header, rows = labelled(clustering, form)
        labelled_rows = [{"path": form.paths[row[0]], **dict(zip(header, row, strict=True))} for row in rows]
        if not any(cluster.name for cluster in clustering.clusters):
            return Document(labelled_rows, labelled_rows, header)
        of_label = [cluster.name for cluster in clustering.clusters]
        names = {
            path: of_label[label] for path, label in zip(clustering.paths, clustering.labels.tolist(), strict=True)
        }
        named = [{"name": names[form.paths[row[0]]], **shown} for row, shown in zip(rows, labelled_rows, strict=True)]
        return Document(named, labelled_rows, header)

    def write_labels(self, clustering: Clustering, out: Path) -> None:
        """Write ImageID and label to a CSV file, in the form that the clustering was asked for.

        Raises UsageError where two images have one ImageID, SampleMismatch, OSError.
        """
        from imgindex.reports.files import replacing
        from imgindex.reports.formats import render

        labels = self.labels(clustering)
        with replacing(os.fspath(out)) as file:
            file.write(render(labels, "csv"))

    def forget(self, id: int) -> None:
        """Keep a clustering no longer; its clusters' names stay for those to come.

        Raises ClusteringNotFound, IndexLocked.
        """
        from imgindex.storage.clusterings import drop

        with self._store.writing(wait=lambda: self.wait) as writer, writer.catalogue.atomic():
            drop(writer.catalogue, id)

    def assign(self, id: int | None = None) -> Assignment:
        """Put the images that a clustering does not know into its clusters, by the nearest centroid, and keep that.

        Images that it knows stay where they are; one that was changed since is a new one.
        Raises ClusteringNotFound, IndexLocked, IndexDamaged.
        """
        from imgindex.clustering.assigning import assign

        found = assign(self._store, id, wait=lambda: self.wait)
        here = os.getcwd()
        assigned = tuple(replace(one, path=shown(one.path, here=here)) for one in found.assigned)
        return Assignment(_shown(found.clustering), assigned)

    def label(self, label: int, name: str | None, *, clustering: int | None = None) -> Cluster:
        """Give the cluster with a label of a clustering a name, which lasts as long as the cluster; None takes it away.

        Raises ClusteringNotFound, UsageError for a label that there is not or a name that is none, IndexLocked.
        """
        from imgindex.clustering.naming import label as give

        return give(self._store, label, name, id=clustering, wait=lambda: self.wait)

    def diff(self, a: int, b: int) -> ClusteringDiff:
        """Compare two clusterings on the images that both have. Raises ClusteringNotFound, IndexDamaged."""
        from imgindex.clustering.comparing import diff

        found, here = diff(self._store, a, b), os.getcwd()
        return replace(found, moved=tuple(replace(one, path=shown(one.path, here=here)) for one in found.moved))

    def evaluate(
        self,
        truth: Path | Mapping[str, str] | None = None,
        *,
        id_kind: str | None = None,
        clustering: int | None = None,
    ) -> Evaluation:
        """Compare a clustering with what a person says: ARI, NMI, V-measure, purity and the confusion.

        truth: a CSV of ImageID and class, or that as a mapping; None for the folder that each image lies in.
        id_kind: what an ImageID is, stem, name or path; None for what it is in the clustering's own CSV.
        Raises ClusteringNotFound, SampleMismatch where no id is known, UsageError, OSError, IndexDamaged.
        """
        from imgindex.clustering.comparing import evaluate
        from imgindex.reports.submission import read_classes, read_text

        classes = truth if truth is None or isinstance(truth, Mapping) else read_classes(read_text(os.fspath(truth)))
        return evaluate(self._store, clustering, classes, id_kind=id_kind)

    def _check(self, form: Form, paths: list[str]) -> Submission:
        """What is wrong with the ids of a form is said here."""
        from imgindex.reports.submission import form_of

        here = os.getcwd()
        failed = {shown(one.path, here=here): one.reason for one in self._store.catalogue.journal.failures()}
        return form_of(form, paths, failed=failed)

    def _paths(self, where: str | None) -> list[str]:
        from imgindex.selecting import select

        here, catalogue = os.getcwd(), self._store.catalogue
        with catalogue.snapshot():
            ids = select(self._store, where)
            paths = catalogue.image_paths(None if ids is None else ids.tolist())
        return [shown(path, here=here) for path in paths.values()]

    def _vectors_of(self, name: str, images: Iterable[Path]) -> Vectors:
        """Vectors (m, dimension) of the examples of an anchor."""
        import numpy as np

        from imgindex.querying import Sources, resolve

        given = [os.fspath(image) for image in images]
        if not given:
            raise UsageError(f"the anchor {name!r} has no images")
        found = resolve(Sources(self._store, self._decoders, lambda: self.embedder), given)
        for query in found:
            if query.failure is not None:
                raise UnreadableImage(f"cannot read {query.text}: {query.failure.reason}", stage=query.failure.stage)
        return np.stack([query.vector for query in found])


def _shown(clustering: Clustering) -> Clustering:
    here = os.getcwd()
    return replace(clustering, paths=[shown(path, here=here) for path in clustering.paths])
