"""Export the vectors of an index, with what it knows of their images, to a file for other programs."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from imgindex.decoding.thumbnails import thumbnails as draw_thumbnails
from imgindex.export.tables import Column, VectorTable
from imgindex.export.targets import check_target
from imgindex.export.vectors import check_format, export
from imgindex.search.filters import columns, select
from imgindex.storage import tags
from imgindex.storage.clusterings import labels_by_image
from imgindex.storage.paths import display_path
from imgindex.storage.store import Store
from imgindex.types import Ids, Image, OnProgress, Progress, Vectors
from imgindex.vectors.projection import check_method, project_to_plane
from imgindex.vectors.rows import VectorRows

EXPORTED_AT_ONCE = 4096
NO_MAP = "none"
THUMBNAIL = 192

log = logging.getLogger(__name__)


def export_index(
    store: Store,
    out: str,
    *,
    format: str | None = None,
    overwrite: bool = False,
    where: str | None = None,
    map: str = "pca",
    thumbnails: int = THUMBNAIL,
    relative_to: str | None = None,
    on_progress: OnProgress | None = None,
) -> int:
    """Write ids, paths and vectors of the present images, from one state of the index; return the count.

    The parameters are those of `ImageIndex.export`. Raises UsageError for an unknown format or an invalid condition,
    FileNotOurs, IndexDamaged when a vector does not match its CRC32, ExtraMissing when the library of a map is not
    installed.
    """
    format = check_format(out, format)
    rich = format == "parquet"
    check_target(out, overwrite=overwrite, index=store.path)
    if rich and map != NO_MAP:
        check_method(map)
    with store.reading():
        only = select(store, where)
        paths = store.catalogue.image_paths(None if only is None else only.tolist())
        ids = list(paths)
        names = [display_path(path, relative_to) for path in paths.values()]
        report = on_progress or (lambda progress: None)
        starts = range(0, len(ids), EXPORTED_AT_ONCE)
        blocks = _reported((store.vectors(ids[start : start + EXPORTED_AT_ONCE]) for start in starts), len(ids), report)
        table = VectorTable(ids, names, store.segments.dimension, blocks)
        if rich:
            described = _described(store, ids, map, only)
            pictures = _pictures(list(paths.values()), thumbnails, on_progress) if thumbnails else None
            table = VectorTable(ids, names, store.segments.dimension, blocks, described, pictures)
        export(out, format, table, overwrite=overwrite, index=store.path)
    return len(ids)


def _reported(blocks: Iterator[Vectors], total: int, on_progress: OnProgress) -> Iterator[Vectors]:
    """Yield the blocks, and report how many images are written."""
    done = 0
    on_progress(Progress("export", done, total))
    for block in blocks:
        yield block
        done += len(block)
        on_progress(Progress("export", done, total))


def _described(store: Store, ids: list[int], method: str, only: Ids | None) -> list[Column]:
    """Return the columns of each image: cluster, coordinates on a map, size in pixels, tags, metadata."""
    catalogue = store.catalogue
    wanted = frozenset(ids)
    images: list[Image] = [image for image in catalogue.images() if image.id in wanted]
    found, tagged, values = labels_by_image(catalogue), tags.tags_by_image(catalogue), tags.metadata_by_image(catalogue)
    described: list[Column] = [
        Column("cluster", "integer", [found[id][0] if id in found else None for id in ids]),
        Column("cluster_name", "text", [found[id][1] if id in found else None for id in ids]),
    ]
    if method != NO_MAP:
        xy = project_to_plane(VectorRows.stored(store.blocks(only), store.segments.dimension), method)
        described += [Column(name, "number", xy[:, axis].tolist()) for axis, name in enumerate("xy")]
    described += [
        Column("width", "integer", [image.width for image in images]),
        Column("height", "integer", [image.height for image in images]),
        Column("tags", "text", [",".join(tagged[id]) if id in tagged else None for id in ids]),
    ]
    return described + list(_metadata(store, ids, values))


def _metadata(store: Store, ids: list[int], values: tags.Metadata) -> Iterator[Column]:
    """Yield the columns of imported metadata, under the names that conditions know them by."""
    keys = tags.metadata_keys(store.catalogue)
    names = list(columns(store.catalogue))
    for key, name in zip(keys, names[len(names) - len(keys) :], strict=True):
        column = [values.get(id, {}).get(key) for id in ids]
        kinds = {type(value) for value in column} - {type(None)}
        kind = "integer" if kinds <= {int} else "number" if kinds <= {int, float} else "text"
        convert = {"integer": int, "number": float, "text": str}[kind]
        yield Column(name, kind, [None if value is None else convert(value) for value in column])


def _pictures(paths: list[str], side: int, on_progress: OnProgress | None) -> Iterator[bytes | None]:
    """Yield a JPEG thumbnail of each image, or None without one; log at the end how many are missing."""
    missing = []
    for picture in draw_thumbnails(paths, side=side, format="jpeg", on_progress=on_progress):
        if not picture.data:
            missing.append(picture)
        yield picture.data or None
    if missing:
        log.warning("images without a thumbnail: %d, as %s: %s", len(missing), missing[0].path, missing[0].reason)
