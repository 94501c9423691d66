"""Keeps what makes searches faster or better: the search index, in a file or in Milvus, and averaged vectors."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from imgindex.errors import IndexDamaged, IndexLocked, UsageError
from imgindex.results import CompactReport
from imgindex.search import milvus_sync
from imgindex.search.lifecycle import CANNOT_ASK, TARGET_SETTING, update_search_index
from imgindex.search.milvus_address import milvus_address
from imgindex.search.smoothed import are_current, update_smoothed_rows
from imgindex.storage import compact as compaction
from imgindex.storage import derived
from imgindex.storage.store import Store
from imgindex.storage.thumbnails import ThumbnailStore
from imgindex.storage.writer import Writer
from imgindex.types import OnProgress

# What `compact` calls the search of this machine.
LOCAL = "local"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Behind:
    """How many images the search index lacks, and why; they are compared with each query until it has them."""

    images: int = 0
    reason: str = ""


def update_search_files(
    store: Store, writer: Writer, *, smooth: bool = False, on_progress: OnProgress = lambda progress: None
) -> Behind:
    """Bring the search index, and averaged vectors if there are any, up to date; remove all other files beside them.

    smooth: make averaged vectors where there are none. Where Milvus searches and cannot be asked, that is no error: the
    next call catches up. Raises IndexDamaged.
    """
    try:
        _update(store, writer, smooth=smooth, on_progress=on_progress)
    except CANNOT_ASK as error:
        logger.debug("the search is behind: %s", error)
        return Behind(milvus_sync.count_behind(writer.catalogue), str(error))
    return Behind()


def _update(
    store: Store, writer: Writer, *, smooth: bool = False, compare: bool = False, on_progress: OnProgress
) -> None:
    folder = os.path.join(store.path, derived.FOLDER)
    derived.sweep_unrecorded(writer.catalogue, folder)
    update_search_index(store, writer, compare=compare, on_progress=on_progress)
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
    store: Store,
    *,
    target_recall: float | None,
    search: str | None,
    wait: Callable[[], bool],
    on_progress: OnProgress,
) -> CompactReport:
    """Free the space of vectors that belong to no image, and renew the search files where they no longer fit.

    target_recall: see `lifecycle.target_recall`; None keeps it. search: the address of a collection of Milvus that
    searches from now on, "local" for this machine, None for no change. Where Milvus searches, ids and CRC32s of both
    sides are compared.

    Raises UsageError, IndexLocked or IndexDamaged. Where Milvus cannot be asked, SearchUnavailable, CollectionNotOurs
    or ExtraMissing, after the space was freed; a collection that `search` names does not search then.
    """
    if target_recall is not None and not 0 < target_recall <= 1:
        raise UsageError(
            f"a target recall of {target_recall} is impossible",
            hint="give a share above 0 and at most 1, such as 0.99",
        )
    address = None if search in (None, LOCAL) else milvus_address(search or "")
    if target_recall is not None:
        with store.writing(wait=wait) as writer, writer.catalogue.atomic():
            writer.catalogue.set_setting(TARGET_SETTING, repr(float(target_recall)))
    report = compaction.compact(store, wait=wait, on_progress=on_progress)
    milvus_sync.forget_outages()
    with store.writing(wait=wait) as writer:
        before = milvus_sync.chosen(writer.catalogue)
        if search is not None:
            milvus_sync.choose(store, writer, address)
        try:
            _update(store, writer, compare=True, on_progress=on_progress)
        except CANNOT_ASK:
            if search is not None:
                milvus_sync.restore(store, writer, before)
            raise
        with contextlib.closing(ThumbnailStore(store.path)) as thumbnails:
            thumbnails.forget_unused(writer.catalogue.path)
    return report
