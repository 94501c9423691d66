"""Views: lists of images that stay as they are while the index changes, so that a page can scroll in them."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from imgindex.clustering.history import squared_distances
from imgindex.errors import UsageError
from imgindex.export import documents
from imgindex.export.tables import Table, render
from imgindex.index import ImageIndex
from imgindex.results import Clustering
from imgindex.server.problems import RequestRefused
from imgindex.types import Ids

# The views that are kept, those that were used last; and their ids, 8 bytes each, in all.
MOST_VIEWS, MOST_IDS = 64, 32_000_000
# The columns of an exported table.
EXPORTED = ["id", "path", "width", "height", "format", "size", "tags"]
# What the images of one clustering may be sorted by: their distance to the centroid, and how near another one is.
OF_A_CLUSTERING = ("distance", "-distance", "margin")


@dataclass(frozen=True, slots=True)
class View:
    """The ids of some images, in an order that was chosen once."""

    id: str
    ids: Ids


class Views:
    """The views of a server, by id."""

    def __init__(self) -> None:
        self._views: OrderedDict[str, View] = OrderedDict()

    def put(self, ids: Ids) -> View:
        """Keep a list of ids; the views that were used least recently are forgotten."""
        view = View(secrets.token_hex(8), ids)
        self._views[view.id] = view
        while len(self._views) > MOST_VIEWS or sum(len(one.ids) for one in self._views.values()) > MOST_IDS:
            if len(self._views) == 1:
                break
            self._views.popitem(last=False)
        return view

    def get(self, id: str) -> View:
        """Return a view. Raises RequestRefused where there is none, or none any more."""
        if id not in self._views:
            hint = "make it again with POST /api/v1/views; a server keeps those that were used last"
            raise RequestRefused(404, "ViewNotFound", f"the view {id!r} does not exist", hint=hint)
        self._views.move_to_end(id)
        return self._views[id]


def select(
    index: ImageIndex,
    *,
    among: Sequence[int] | None,
    where: str | None,
    tag: str | None,
    clustering: int | None,
    label: int | None,
    sort: str,
) -> Ids:
    """Return the ids of the present images that fulfil all conditions, sorted.

    among: only images with these ids. clustering, label: only images of that cluster. sort: as in `ImageIndex.ids`, or
    one of OF_A_CLUSTERING. Raises UsageError, ClusteringNotFound, IndexDamaged.
    """
    by_fit = sort in OF_A_CLUSTERING
    if clustering is None and (label is not None or by_fit):
        raise UsageError("a label, and a sort by distance or margin, need a clustering", hint="give its id")
    conditions = [f"({where}\n)"] if where is not None else []
    if tag is not None:
        conditions.append("tags match '{}'".format(tag.replace("'", "''")))
    ids = index.ids(where=" and ".join(conditions) or None, sort="id" if by_fit else sort)
    if among is not None:
        ids = ids[np.isin(ids, np.array(among, np.int64))]
    if clustering is None:
        return ids
    members = index.clusterings[clustering]
    if label is not None and label >= members.k:
        raise UsageError(f"clustering {clustering} has no label {label}", hint=f"its labels are 0 to {members.k - 1}")
    if by_fit:
        return _by_fit(index, members, label, sort, ids)
    chosen = members.ids if label is None else members.ids[members.labels == label]
    return ids[np.isin(ids, chosen)]


def exported(index: ImageIndex, ids: Sequence[int], format: str) -> bytes:
    """Return a table of images as a file; format: paths, csv, tsv, json, jsonl or parquet."""
    data = documents.images(index.images(ids=ids))
    rows = [{**image, "tags": ",".join(image["tags"])} for image in data]
    if format == "parquet":
        # Imported late: pyarrow takes a fifth of a second.
        from imgindex.export.parquet import render_rows

        return render_rows(rows, EXPORTED)
    return render(Table(data, rows, EXPORTED), format)


def samples(index: ImageIndex, clustering: int, n: int) -> list[list[int]]:
    """Return for each label the ids of the n present images that are nearest to the centroid, the nearest first."""
    members = index.clusterings[clustering]
    far = squared_distances(index._store, members)
    present = np.isin(members.ids, index.ids())
    order = np.lexsort((members.ids, far, members.labels))
    order = order[present[order]]
    labels = members.labels[order]
    starts = np.searchsorted(labels, np.arange(members.k))
    ends = np.searchsorted(labels, np.arange(members.k), side="right")
    return [members.ids[order[start : min(end, start + n)]].tolist() for start, end in zip(starts, ends, strict=True)]


def _by_fit(index: ImageIndex, members: Clustering, label: int | None, sort: str, ids: Ids) -> Ids:
    if label is not None and members.fit is None:
        # Images of other clusters need not be compared with all centroids.
        own = members.labels == label
        members = replace(members, ids=members.ids[own], labels=members.labels[own])
    fitted = index.clusterings.with_fit(members)
    assert fitted.fit is not None
    values = fitted.fit.margins if sort == "margin" else fitted.fit.distances
    values = -values if sort.startswith("-") else values
    order = np.lexsort((fitted.ids, values))
    chosen = np.isin(fitted.ids[order], ids)
    if label is not None:
        chosen &= fitted.labels[order] == label
    found: Ids = fitted.ids[order][chosen]
    return found
