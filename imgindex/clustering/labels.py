"""The labels of a clustering as a table: ImageIDs, labels, and the columns beside them."""

from __future__ import annotations

from collections.abc import Sequence

from imgindex.clustering.history import VECTOR_COLUMNS, with_fit
from imgindex.export.submission import Submission, label_rows, make_submission
from imgindex.export.tables import Table
from imgindex.results import Clustering, LabelFormat
from imgindex.storage.store import Store


def empty_submission(store: Store, label_format: LabelFormat, paths: Sequence[str]) -> Submission:
    """Return the submission that labels of the images at these paths will fill. Raises UsageError, SampleMismatch."""
    failed = {failure.path: failure.reason for failure in store.catalogue.ledger.failures()}
    return make_submission(label_format, paths, failed=failed)


def label_table(store: Store, clustering: Clustering, label_format: LabelFormat) -> Table:
    """Return a table with a row for each image, whose `columns` are those of the CSV.

    Each row of its `data` has also the image's path, and the name of its cluster where any cluster has a name.

    Raises UsageError where two images have one ImageID, SampleMismatch, IndexDamaged.
    """
    submission = empty_submission(store, label_format, clustering.paths)
    computed = VECTOR_COLUMNS & set(label_format.extras)
    if computed:
        clustering = with_fit(store, clustering, silhouettes="silhouette" in computed)
    header, cells = label_rows(clustering, submission, label_format.extras)
    rows = [{"path": submission.paths[row[0]], **dict(zip(header, row, strict=True))} for row in cells]
    if not any(cluster.name for cluster in clustering.clusters):
        return Table(rows, rows, header)
    names = {
        path: clustering.clusters[label].name
        for path, label in zip(clustering.paths, clustering.labels.tolist(), strict=True)
    }
    return Table([{"name": names[row["path"]], **row} for row in rows], rows, header)
