"""Keeps the files that searches are made faster or better with: the search index, and averaged vectors."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable

from imgindex.errors import IndexDamaged, IndexLocked, UsageError
from imgindex.results import CompactReport
from imgindex.search.lifecycle import TARGET_SETTING, update_search_index
from imgindex.search.smoothed import are_current, update_smoothed_rows
from imgindex.storage import compact as compaction
from imgindex.storage import derived
from imgindex.storage.store import Store
from imgindex.storage.thumbnails import ThumbnailStore
from imgindex.storage.writer import Writer
from imgindex.types import OnProgress, Progress

logger = logging.getLogger(__name__)


def update_search_files(
    store: Store, writer: Writer, *, smooth: bool = False, on_progress: OnProgress = lambda progress: None
) -> None:
    """Bring the search index, and averaged vectors if there are any, up to date; remove all other files beside them.

    smooth: make averaged vectors where there are none. Raises IndexDamaged.
    """
    folder = os.path.join(store.path, derived.FOLDER)
    derived.sweep_unrecorded(writer.catalogue, folder)
    update_search_index(store, writer, on_rebuild=lambda: on_progress(Progress("search index", 0, 0)))
    derived.sweep_unrecorded(writer.catalogue, folder)
    update_smoothed_rows(store, writer, wanted=smooth, on_progress=on_progress)
    derived.sweep_unrecorded(writer.catalogue, folder)


def prepare_smoothing(store: Store, on_progress: OnProgress = lambda progress: None) -> None:
    """Make or renew the file of averaged vectors where that is needed and possible.

    It is not while another process writes, and where the disk is full or read-only: `smoothed_rows` then makes them in
    memory.
    """
    if are_current(store):
        return
    try:
        with store.writing() as writer:
            update_search_files(store, writer, smooth=True, on_progress=on_progress)
    except (IndexLocked, IndexDamaged, OSError, sqlite3.Error) as error:
        logger.info("averaged vectors are made in memory: %s", error)


def compact(
    store: Store, *, target_recall: float | None, wait: Callable[[], bool], on_progress: OnProgress
) -> CompactReport:
    """Free the space of vectors that belong to no image, and renew the search files where they no longer fit.

    target_recall: see `lifecycle.target_recall`; None keeps it. Raises UsageError, IndexLocked or IndexDamaged.
    """
    if target_recall is not None:
        if not 0 < target_recall <= 1:
            raise UsageError(
                f"a target recall of {target_recall} is impossible",
                hint="give a share above 0 and at most 1, such as 0.99",
            )
        with store.writing(wait=wait) as writer, writer.catalogue.atomic():
            writer.catalogue.set_setting(TARGET_SETTING, repr(float(target_recall)))
    report = compaction.compact(store, wait=wait, on_progress=on_progress)
    with store.writing(wait=wait) as writer:
        update_search_files(store, writer, on_progress=on_progress)
        with contextlib.closing(ThumbnailStore(store.path)) as thumbnails:
            thumbnails.forget_unused(writer.catalogue.path)
    return report
