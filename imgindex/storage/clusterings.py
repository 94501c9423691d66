"""Reads and writes stored clusterings, and the clusters that continue from one clustering to the next.

A stored clustering is never changed. Images that are assigned to its clusters later are stored beside it. An image
whose vector changed since it was clustered, which its CRC32 shows, counts as a new image.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from imgindex.errors import ClusteringNotFound, IndexDamaged
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.ledger import timestamp
from imgindex.types import Ids, Vectors

# The first format of catalogues with clusterings.
SINCE = 3
# The most bytes that a blob may unpack to: about 50 million images.
LIMIT = 1 << 30

HEADER = (int, str, str, str)


@dataclass(frozen=True, slots=True)
class ClusteringHeader:
    """A stored clustering without its images.

    provenance: JSON object with its parameters and results. clusters: for each label the id of its cluster, which stays
    the same in a later clustering that still has the cluster.
    """

    id: int
    made_at: str
    provenance: dict[str, Any]
    clusters: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Membership:
    """The images of a clustering in the order of ids: labels, and the CRC32s of the vectors that were clustered."""

    ids: Ids
    labels: Ids
    crcs: Ids


@dataclass(frozen=True, slots=True)
class StoredClustering:
    """A clustering as it was stored.

    centroids: float32 (k, d). paths: absolute, of the members. details: columns float32 (n,) by name. sample: the text
    of the sample submission whose format was copied.
    """

    header: ClusteringHeader
    centroids: Vectors
    members: Membership
    paths: list[str]
    details: dict[str, Vectors] = field(default_factory=dict)
    sample: str | None = None


def headers(catalogue: Catalogue) -> list[ClusteringHeader]:
    """Return the headers of all clusterings, the oldest first. Raises IndexDamaged."""
    if catalogue.version < SINCE:
        return []
    rows = catalogue.connection.rows(HEADER, "select id, made_at, receipt, clusters from clusterings order by id")
    return [_head(catalogue, row) for row in rows]


def newest(catalogue: Catalogue) -> int | None:
    """Return the id of the newest clustering; None where there is none."""
    if catalogue.version < SINCE:
        return None
    (id,) = catalogue.connection.execute("select max(id) from clusterings").fetchone()
    return id if isinstance(id, int) else None


def existing_id(catalogue: Catalogue, id: int | None) -> int:
    """Return `id` if it is that of a clustering, and for None the id of the newest. Raises ClusteringNotFound."""
    ids = [header.id for header in headers(catalogue)]
    if not ids:
        raise ClusteringNotFound("no clustering is kept", hint="make one, for example with `imgindex cluster -k 5`")
    if id is not None and id not in ids:
        raise ClusteringNotFound(
            f"the index does not have clustering {id}", hint="see the ids with `imgindex clusterings`"
        )
    return ids[-1] if id is None else id


def read(catalogue: Catalogue, id: int | None) -> StoredClustering:
    """Return a clustering, the newest for None. Raises ClusteringNotFound, IndexDamaged."""
    id = existing_id(catalogue, id)
    query = """select id, made_at, receipt, clusters, centroids, members, paths, coalesce(details, x''), sample
               from clusterings where id = ?"""
    kinds = (*HEADER, bytes, bytes, bytes, bytes, (bytes, type(None)))
    (row,) = catalogue.connection.rows(kinds, query, (id,))
    header = _head(catalogue, row[:4])
    centroids, members, paths, details, sample = row[4:]
    try:
        return StoredClustering(
            header,
            np.frombuffer(centroids, "<f4").reshape(len(header.clusters), int(catalogue.settings()["dimension"])),
            _members(members, len(header.clusters)),
            catalogue.paths.split_absolute(_unpacked(paths)),
            _details(details, header.provenance.get("details", [])),
            None if sample is None else _unpacked(sample).decode("utf-8", "surrogateescape"),
        )
    except (KeyError, ValueError, TypeError, zlib.error) as error:
        raise IndexDamaged(f"{catalogue.path} is damaged: clustering {id} cannot be read") from error


def keep(catalogue: Catalogue, kept: StoredClustering) -> ClusteringHeader:
    """Store a clustering, and return its header with its new id; the caller commits."""
    members, made_at = kept.members, timestamp()
    values = (
        made_at,
        json.dumps({**kept.header.provenance, "details": list(kept.details)}),
        json.dumps(kept.header.clusters),
        np.ascontiguousarray(kept.centroids, "<f4").tobytes(),
        _packed(members),
        zlib.compress(catalogue.paths.join_stored(kept.paths)),
        b"".join(np.ascontiguousarray(column, "<f4").tobytes() for column in kept.details.values()),
        None if kept.sample is None else zlib.compress(kept.sample.encode("utf-8", "surrogateescape")),
    )
    columns = "made_at, receipt, clusters, centroids, members, paths, details, sample"
    marks = ", ".join("?" * len(values))
    row = catalogue.connection.execute(f"insert into clusterings ({columns}) values ({marks})", values)
    return ClusteringHeader(int(row.lastrowid or 0), made_at, kept.header.provenance, kept.header.clusters)


def drop(catalogue: Catalogue, id: int) -> None:
    """Delete a clustering, and its clusters that have no name and are in no other clustering; the caller commits."""
    existing_id(catalogue, id)
    catalogue.connection.execute("delete from clusterings where id = ?", (id,))
    used = {cluster for header in headers(catalogue) for cluster in header.clusters}
    unused = [(cluster,) for cluster, name in names(catalogue).items() if cluster not in used and name is None]
    catalogue.connection.executemany("delete from clusters where id = ?", unused)


def drop_unreadable(catalogue: Catalogue) -> None:
    """Delete clusterings and assignments that cannot be read in a salvaged catalogue; the caller commits."""
    run = catalogue.connection.execute
    for (id,) in run("select id from clusterings").fetchall():
        try:
            labels = len(read(catalogue, id).header.clusters)
            run("delete from assigned where clustering = ? and label not between 0 and ?", (id, labels - 1))
        except IndexDamaged:
            run("delete from clusterings where id = ?", (id,))
    run("delete from assigned where clustering not in (select id from clusterings)")


def names(catalogue: Catalogue) -> dict[int, str | None]:
    """Return cluster id → name of all clusters."""
    if catalogue.version < SINCE:
        return {}
    return dict(catalogue.connection.rows((int, (str, type(None))), "select id, name from clusters order by id"))


def new_cluster(catalogue: Catalogue) -> int:
    """Return an id that no cluster had before; the caller commits."""
    return int(catalogue.connection.execute("insert into clusters (name) values (null)").lastrowid or 0)


def set_name(catalogue: Catalogue, cluster: int, name: str | None) -> None:
    """Give a cluster a name, which any other cluster then loses, or None to remove it; the caller commits."""
    catalogue.connection.execute("update clusters set name = null where name = ?", (name,))
    catalogue.connection.execute("update clusters set name = ? where id = ?", (name, cluster))


def assign(catalogue: Catalogue, id: int, members: Membership) -> None:
    """Record images that are assigned to the clusters of an older clustering; the caller commits."""
    rows = zip(members.ids.tolist(), members.labels.tolist(), members.crcs.tolist(), strict=True)
    query = "insert or replace into assigned values (?, ?, ?, ?)"
    catalogue.connection.executemany(query, ((id, *row) for row in rows))


def current_labels(
    catalogue: Catalogue, id: int, members: Membership, table: npt.NDArray[np.int64] | None = None
) -> Membership:
    """Return the present images with their labels in a clustering; −1 for images without a label.

    An image whose vector changed since has no label until it is assigned again. table: what
    `Catalogue.location_table` returns, where the caller has it.
    """
    table = catalogue.location_table() if table is None else table
    labels = np.full(len(table), -1, np.int64)
    assigned = list(catalogue.connection.rows((int, int, int), ASSIGNED, (id,))) if len(table) else []
    columns = np.array(assigned, np.int64).reshape(-1, 3).T
    for known in (members, Membership(*columns)):
        if len(known.ids):
            at = np.searchsorted(known.ids, table[:, 0]).clip(max=len(known.ids) - 1)
            same = (known.ids[at] == table[:, 0]) & (known.crcs[at] == table[:, 3])
            labels[same] = known.labels[at[same]]
    return Membership(table[:, 0], labels, table[:, 3])


ASSIGNED = "select image, label, crc32 from assigned where clustering = ? order by image"


def labels_by_image(catalogue: Catalogue) -> dict[int, tuple[int, str | None]]:
    """Return id → label and name of its cluster in the newest clustering, for each present image that has one."""
    id = newest(catalogue)
    if id is None:
        return {}
    kept = read(catalogue, id)
    cluster_names = names(catalogue)
    of_label = [cluster_names.get(cluster) for cluster in kept.header.clusters]
    now = current_labels(catalogue, id, kept.members)
    return {
        image: (label, of_label[label])
        for image, label in zip(now.ids.tolist(), now.labels.tolist(), strict=True)
        if 0 <= label < len(of_label)
    }


def _head(catalogue: Catalogue, row: Sequence[Any]) -> ClusteringHeader:
    import msgspec

    id, made_at, text, clusters = row
    try:
        # Not msgspec's own parser: json.dumps may have written NaN.
        provenance = msgspec.convert(json.loads(text), dict[str, Any])
        cluster_ids = msgspec.json.decode(clusters, type=tuple[int, ...])
    except (ValueError, RecursionError) as error:
        raise IndexDamaged(f"{catalogue.path} is damaged: the provenance of clustering {id} cannot be read") from error
    return ClusteringHeader(id, made_at, provenance, cluster_ids)


def _packed(members: Membership) -> bytes:
    """Return differences of rising ids int64, labels int32 and CRC32s uint32, one after the other, compressed."""
    ids = np.diff(members.ids, prepend=0).astype("<i8")
    return zlib.compress(ids.tobytes() + members.labels.astype("<i4").tobytes() + members.crcs.astype("<u4").tobytes())


def _members(packed: bytes, k: int) -> Membership:
    data = _unpacked(packed)
    n = len(data) // 16
    ids = np.cumsum(np.frombuffer(data, "<i8", n))
    labels = np.frombuffer(data, "<i4", n, 8 * n).astype(np.int64)
    crcs = np.frombuffer(data, "<u4", n, 12 * n).astype(np.int64)
    if len(data) != 16 * n or (np.diff(ids) <= 0).any() or (labels < 0).any() or (labels >= k).any():
        raise ValueError("impossible members")
    return Membership(ids, labels, crcs)


def _details(data: bytes, columns: list[str]) -> dict[str, Vectors]:
    if not columns:
        return {}
    return dict(zip(map(str, columns), np.frombuffer(data, "<f4").reshape(len(columns), -1), strict=True))


def _unpacked(data: bytes) -> bytes:
    unpack = zlib.decompressobj()
    out = unpack.decompress(data, LIMIT)
    if not unpack.eof:
        raise ValueError("a blob that is too large or incomplete")
    return out
