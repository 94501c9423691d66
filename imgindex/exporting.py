"""From the stored vectors, and what is known of their images, to a file for other programs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

from imgindex.analysis.points import Points
from imgindex.analysis.projection import plane
from imgindex.picturing import thumbnails
from imgindex.reports.export import Column, Table, check_ending, export
from imgindex.selecting import Ids, columns, select
from imgindex.storage import tags
from imgindex.storage.clusterings import labels_by_image
from imgindex.storage.paths import shown
from imgindex.storage.store import Store
from imgindex.types import Image, OnProgress

EXPORTED_AT_ONCE = 4096
NO_MAP = "none"
THUMBNAIL = 192

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a file is to hold: images that fulfil `where`, and in a table their place on a map and a small picture.

    map: pca, umap, tsne or none. thumbnails: pixels of the longer side, 0 for none.
    """

    where: str | None = None
    map: str = "pca"
    thumbnails: int = THUMBNAIL


def export_index(store: Store, out: str, wishes: Wishes, *, on_progress: OnProgress | None = None) -> int:
    """Write ids, paths and vectors of images that are shown, from one state of the index; return the count.

    Raises UsageError for an ending that names no format, or a condition that is none; IndexDamaged when a vector does
    not have its CRC32; ExtraMissing when the library of a map is not installed.
    """
    rich = check_ending(out) == ".parquet"
    with store.reading():
        only = select(store, wishes.where)
        paths = store.catalogue.image_paths(None if only is None else only.tolist())
        ids, here = list(paths), os.getcwd()
        names = [shown(path, here=here) for path in paths.values()]
        starts = range(0, len(ids), EXPORTED_AT_ONCE)
        blocks = (store.vectors(ids[start : start + EXPORTED_AT_ONCE]) for start in starts)
        table = Table(ids, names, store.segments.dimension, blocks)
        if rich:
            described = _described(store, ids, wishes.map, only)
            pictures = _pictures(list(paths.values()), wishes.thumbnails, on_progress) if wishes.thumbnails else None
            table = Table(ids, names, store.segments.dimension, blocks, described, pictures)
        export(out, table)
    return len(ids)


def _described(store: Store, ids: list[int], method: str, only: Ids | None) -> list[Column]:
    """Return what is known of each image: cluster, place on a map, size of the picture, tags, metadata."""
    catalogue = store.catalogue
    wanted = frozenset(ids)
    images: list[Image] = [image for image in catalogue.images() if image.id in wanted]
    found, tagged, values = labels_by_image(catalogue), tags.of_images(catalogue), tags.described(catalogue)
    described: list[Column] = [
        Column("cluster", "integer", [found[id][0] if id in found else None for id in ids]),
        Column("cluster_name", "text", [found[id][1] if id in found else None for id in ids]),
    ]
    if method != NO_MAP:
        xy = plane(Points.stored(store.blocks(only), store.segments.dimension), method)
        described += [Column(name, "number", xy[:, axis].tolist()) for axis, name in enumerate("xy")]
    described += [
        Column("width", "integer", [image.width for image in images]),
        Column("height", "integer", [image.height for image in images]),
        Column("tags", "text", [",".join(tagged[id]) if id in tagged else None for id in ids]),
    ]
    return described + list(_metadata(store, ids, values))


def _metadata(store: Store, ids: list[int], values: tags.Described) -> Iterator[Column]:
    """Yield the columns of imported metadata, under the names that conditions know them by."""
    keys = tags.keys(store.catalogue)
    names = list(columns(store.catalogue))
    for key, name in zip(keys, names[len(names) - len(keys) :], strict=True):
        column = [values.get(id, {}).get(key) for id in ids]
        kinds = {type(value) for value in column} - {type(None)}
        kind = "integer" if kinds <= {int} else "number" if kinds <= {int, float} else "text"
        yield Column(name, kind, column if kind != "text" else [None if v is None else str(v) for v in column])


def _pictures(paths: list[str], side: int, on_progress: OnProgress | None) -> Iterator[bytes | None]:
    """Yield a small JPEG of each image, or None where there is none, and say at the end how many there are not."""
    missing = []
    for picture in thumbnails(paths, side=side, format="jpeg", on_progress=on_progress):
        if not picture.data:
            missing.append(picture)
        yield picture.data or None
    if missing:
        log.warning("images without a thumbnail: %d, as %s: %s", len(missing), missing[0].path, missing[0].reason)
