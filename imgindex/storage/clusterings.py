"""Clusterings that are kept: what they were made of, their centroids and members, and what lasts from one to the next.

A clustering is never changed. Images that are put into its clusters later stand beside it, and an image whose vector
is no longer the one that it was clustered by (its CRC32 tells) counts as a new one.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from imgindex.errors import ClusteringNotFound, IndexDamaged
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.journal import timestamp
from imgindex.types import Vectors

# The format of catalogues that know of clusterings.
SINCE = 3
# Bytes that a blob may unpack to: 50 million images.
LIMIT = 1 << 30

Ids = npt.NDArray[np.int64]
HEAD = (int, str, str, str)


@dataclass(frozen=True, slots=True)
class Head:
    """A kept clustering without its images: `receipt` as it was given, `clusters` the lasting ids of its labels."""

    id: int
    made_at: str
    receipt: dict[str, Any]
    clusters: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Members:
    """The images of a clustering, rising by id: labels, and the CRC32s of the vectors that they were clustered by."""

    ids: Ids
    labels: Ids
    crcs: Ids


@dataclass(frozen=True, slots=True)
class Kept:
    """A clustering as it was kept.

    centroids float32 (k, d); paths: absolute, of the members; details: float32 (n,) columns by name; sample: the text
    of the submission that it was made like.
    """

    head: Head
    centroids: Vectors
    members: Members
    paths: list[str]
    details: dict[str, Vectors] = field(default_factory=dict)
    sample: str | None = None


def heads(catalogue: Catalogue) -> list[Head]:
    """Return all clusterings that are kept, the oldest first."""
    if catalogue.version < SINCE:
        return []
    rows = catalogue.connection.rows(HEAD, "select id, made_at, receipt, clusters from clusterings order by id")
    return [_head(catalogue, row) for row in rows]


def newest(catalogue: Catalogue) -> int | None:
    """Return the id of the newest clustering; None where none is kept."""
    if catalogue.version < SINCE:
        return None
    (id,) = catalogue.connection.execute("select max(id) from clusterings").fetchone()
    return id if isinstance(id, int) else None


def find(catalogue: Catalogue, id: int | None) -> int:
    """Return the id of a clustering, the newest one's for None. Raises ClusteringNotFound."""
    ids = [head.id for head in heads(catalogue)]
    if not ids:
        raise ClusteringNotFound("no clustering is kept", hint="make one with `imgindex cluster -k K`")
    if id is not None and id not in ids:
        raise ClusteringNotFound(
            f"there is no clustering {id}", hint="`imgindex clusterings` lists those that are kept"
        )
    return ids[-1] if id is None else id


def read(catalogue: Catalogue, id: int | None) -> Kept:
    """Return a clustering, the newest for None. Raises ClusteringNotFound, IndexDamaged."""
    id = find(catalogue, id)
    query = """select id, made_at, receipt, clusters, centroids, members, paths, coalesce(details, x''), sample
               from clusterings where id = ?"""
    kinds = (*HEAD, bytes, bytes, bytes, bytes, (bytes, type(None)))
    (row,) = catalogue.connection.rows(kinds, query, (id,))
    head = _head(catalogue, row[:4])
    centroids, members, paths, details, sample = row[4:]
    try:
        return Kept(
            head,
            np.frombuffer(centroids, "<f4").reshape(len(head.clusters), int(catalogue.settings()["dimension"])),
            _members(members, len(head.clusters)),
            [catalogue.paths.absolute(path) for path in _unpacked(paths).split(b"\0")],
            _details(details, head.receipt.get("details", [])),
            None if sample is None else _unpacked(sample).decode("utf-8", "surrogateescape"),
        )
    except (KeyError, ValueError, TypeError, zlib.error) as error:
        raise IndexDamaged(f"{catalogue.path} is damaged: clustering {id} does not make sense") from error


def keep(catalogue: Catalogue, kept: Kept) -> Head:
    """Record a clustering, whose head has no id yet; the caller commits."""
    members, made_at = kept.members, timestamp()
    stored = b"\0".join(os.fsencode(catalogue.paths.stored(path)) for path in kept.paths)
    values = (
        made_at,
        json.dumps({**kept.head.receipt, "details": list(kept.details)}),
        json.dumps(kept.head.clusters),
        np.ascontiguousarray(kept.centroids, "<f4").tobytes(),
        _packed(members),
        zlib.compress(stored),
        b"".join(np.ascontiguousarray(column, "<f4").tobytes() for column in kept.details.values()),
        None if kept.sample is None else zlib.compress(kept.sample.encode("utf-8", "surrogateescape")),
    )
    columns = "made_at, receipt, clusters, centroids, members, paths, details, sample"
    marks = ", ".join("?" * len(values))
    row = catalogue.connection.execute(f"insert into clusterings ({columns}) values ({marks})", values)
    return Head(int(row.lastrowid or 0), made_at, kept.head.receipt, kept.head.clusters)


def drop(catalogue: Catalogue, id: int) -> None:
    """Forget a clustering, and the clusters without a name that no other one has; the caller commits."""
    find(catalogue, id)
    catalogue.connection.execute("delete from clusterings where id = ?", (id,))
    used = {cluster for head in heads(catalogue) for cluster in head.clusters}
    unused = [(cluster,) for cluster, name in names(catalogue).items() if cluster not in used and name is None]
    catalogue.connection.executemany("delete from clusters where id = ?", unused)


def drop_senseless(catalogue: Catalogue) -> None:
    """Forget what a damaged catalogue may have said of clusterings that cannot be read; the caller commits."""
    run = catalogue.connection.execute
    for (id,) in run("select id from clusterings").fetchall():
        try:
            labels = len(read(catalogue, id).head.clusters)
            run("delete from assigned where clustering = ? and label not between 0 and ?", (id, labels - 1))
        except IndexDamaged:
            run("delete from clusterings where id = ?", (id,))
    run("delete from assigned where clustering not in (select id from clusterings)")


def names(catalogue: Catalogue) -> dict[int, str | None]:
    """Return the names of all clusters that last, by their ids."""
    if catalogue.version < SINCE:
        return {}
    return dict(catalogue.connection.rows((int, (str, type(None))), "select id, name from clusters order by id"))


def new_cluster(catalogue: Catalogue) -> int:
    """Return an id that no cluster has had; the caller commits."""
    return int(catalogue.connection.execute("insert into clusters (name) values (null)").lastrowid or 0)


def name(catalogue: Catalogue, cluster: int, name: str | None) -> None:
    """Give a cluster a name, which no other one then has, or take it; the caller commits."""
    catalogue.connection.execute("update clusters set name = null where name = ?", (name,))
    catalogue.connection.execute("update clusters set name = ? where id = ?", (name, cluster))


def assign(catalogue: Catalogue, id: int, members: Members) -> None:
    """Record images that were put into the clusters of a clustering later; the caller commits."""
    rows = zip(members.ids.tolist(), members.labels.tolist(), members.crcs.tolist(), strict=True)
    query = "insert or replace into assigned values (?, ?, ?, ?)"
    catalogue.connection.executemany(query, ((id, *row) for row in rows))


def labels_now(catalogue: Catalogue, id: int, members: Members) -> Members:
    """Return the images that are shown, with their labels in a clustering; −1 where they have none.

    An image whose vector has changed since has none, until it is assigned anew.
    """
    table = catalogue.places()
    table = table[np.argsort(table[:, 0], kind="stable")]
    labels = np.full(len(table), -1, np.int64)
    later = list(catalogue.connection.rows((int, int, int), ASSIGNED, (id,))) if len(table) else []
    columns = np.array(later, np.int64).reshape(-1, 3).T
    for known in (members, Members(*columns)):
        if len(known.ids):
            at = np.searchsorted(known.ids, table[:, 0]).clip(max=len(known.ids) - 1)
            same = (known.ids[at] == table[:, 0]) & (known.crcs[at] == table[:, 3])
            labels[same] = known.labels[at[same]]
    return Members(table[:, 0], labels, table[:, 3])


ASSIGNED = "select image, label, crc32 from assigned where clustering = ? order by image"


def labels_by_image(catalogue: Catalogue) -> dict[int, tuple[int, str | None]]:
    """Return id → label and name of the cluster of each image that is shown and has one in the newest clustering."""
    id = newest(catalogue)
    if id is None:
        return {}
    kept = read(catalogue, id)
    called = names(catalogue)
    of_label = [called.get(cluster) for cluster in kept.head.clusters]
    now = labels_now(catalogue, id, kept.members)
    return {
        image: (label, of_label[label])
        for image, label in zip(now.ids.tolist(), now.labels.tolist(), strict=True)
        if 0 <= label < len(of_label)
    }


def _head(catalogue: Catalogue, row: Sequence[Any]) -> Head:
    id, made_at, receipt, clusters = row
    try:
        told, lasting = json.loads(receipt), json.loads(clusters)
        if not isinstance(told, dict) or not isinstance(lasting, list) or not all(type(one) is int for one in lasting):
            raise ValueError
    except (ValueError, RecursionError) as error:
        raise IndexDamaged(f"{catalogue.path} is damaged: the receipt of clustering {id} is none") from error
    return Head(id, made_at, told, tuple(lasting))


def _packed(members: Members) -> bytes:
    """Rising ids as differences, int64, labels int32, CRC32s uint32, one after the other, compressed."""
    ids = np.diff(members.ids, prepend=0).astype("<i8")
    return zlib.compress(ids.tobytes() + members.labels.astype("<i4").tobytes() + members.crcs.astype("<u4").tobytes())


def _members(packed: bytes, k: int) -> Members:
    data = _unpacked(packed)
    n = len(data) // 16
    ids = np.cumsum(np.frombuffer(data, "<i8", n))
    labels = np.frombuffer(data, "<i4", n, 8 * n).astype(np.int64)
    crcs = np.frombuffer(data, "<u4", n, 12 * n).astype(np.int64)
    if len(data) != 16 * n or (np.diff(ids) <= 0).any() or (labels < 0).any() or (labels >= k).any():
        raise ValueError("no members")
    return Members(ids, labels, crcs)


def _details(data: bytes, columns: list[str]) -> dict[str, Vectors]:
    if not columns:
        return {}
    return dict(zip(map(str, columns), np.frombuffer(data, "<f4").reshape(len(columns), -1), strict=True))


def _unpacked(data: bytes) -> bytes:
    unpack = zlib.decompressobj()
    out = unpack.decompress(data, LIMIT)
    if not unpack.eof:
        raise ValueError("too much, or not all")
    return out
