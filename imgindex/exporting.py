"""From the stored vectors to a file for other programs."""

from __future__ import annotations

import os

from imgindex.reports.export import Table, export
from imgindex.storage.paths import shown
from imgindex.storage.store import Store

EXPORTED_AT_ONCE = 4096


def export_index(store: Store, out: str) -> int:
    """Write ids, paths and vectors of all images that are shown, from one state of the index; return the count.

    Raises UsageError for an ending that names no format, IndexDamaged when a vector does not have its CRC32.
    """
    with store.reading():
        here = os.getcwd()
        paths = store.catalogue.image_paths()
        ids = list(paths)
        starts = range(0, len(ids), EXPORTED_AT_ONCE)
        blocks = (store.vectors(ids[start : start + EXPORTED_AT_ONCE]) for start in starts)
        names = [shown(path, here=here) for path in paths.values()]
        export(out, Table(ids, names, store.segments.dimension, blocks))
    return len(ids)
