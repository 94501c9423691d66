"""Rewrites segments without the rows that belong to no image, and the catalogue without its free pages."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator
from itertools import islice

import numpy as np

from imgindex.errors import IndexDamaged
from imgindex.results import CompactReport
from imgindex.storage import comparisons, durable
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.records import Location
from imgindex.storage.segments import Segments, Stored, Tail, has_crc
from imgindex.storage.store import Store
from imgindex.types import OnProgress, counted

COPIED_BYTES = 64 << 20  # of vectors in memory at once


def compact(
    store: Store,
    *,
    wait: Callable[[], bool] = lambda: False,
    on_progress: OnProgress = lambda progress: None,
) -> CompactReport:
    """Free the space of rows that no longer belong to an image; other processes can read meanwhile.

    Missing images keep their vectors. Needs disk space for a copy of the segments that are rewritten.
    on_progress: called with how many vectors are copied.

    Raises IndexLocked, or IndexDamaged (and changes nothing) when a vector does not have its CRC32.
    """
    started, before = time.perf_counter(), store.bytes_on_disk()
    with store.writing(wait=wait) as writer:
        catalogue, segments = writer.catalogue, writer.segments
        rows = catalogue.segments()
        old = _worth_rewriting(catalogue, segments, rows)
        kept = rewrite(catalogue, segments, old, on_progress=on_progress)
        with catalogue.atomic():
            catalogue.drop_segments(old)
            comparisons.forget_unused(catalogue)
        for number in old:
            durable.remove(segments.path(number))
        durable.disk.execute(catalogue.path, catalogue.connection, "vacuum")
        after_segments = len(catalogue.segments())
    after = store.bytes_on_disk()
    return CompactReport(
        rows_dropped=sum(rows[number] for number in old) - kept,
        segments_before=len(rows),
        segments_after=after_segments,
        bytes_before=before["catalogue"] + before["segments"],
        bytes_after=after["catalogue"] + after["segments"],
        seconds=round(time.perf_counter() - started, 3),
    )


def rewrite(
    catalogue: Catalogue,
    segments: Segments,
    numbers: Collection[int],
    *,
    skip_damaged: bool = False,
    on_progress: OnProgress = lambda progress: None,
) -> int:
    """Copy the rows that belong to images from these segments to new ones, in one commit; return how many.

    skip_damaged: do not copy vectors without their CRC32, instead of raising IndexDamaged.
    """
    wanted = [one for one in catalogue.locations(include_missing=True) if one.segment in numbers]
    locations = counted(wanted, len(wanted), "copy vectors", on_progress)
    maps = {number: segments.map_all(number) if skip_damaged else segments.map(number, rows)
            for number, rows in catalogue.segments().items() if number in numbers}  # fmt: skip
    tail = Tail(segments, {}, first=catalogue.next_segment())
    moved: list[Location] = []
    try:
        while part := list(islice(locations, max(1, COPIED_BYTES // segments.row_size))):
            sound = list(_sound(segments, part, maps, skip_damaged=skip_damaged))
            if sound:
                copied = tail.append(np.stack([maps[location.segment][location.row] for location in sound]))
                moved += [Location(location.id, *new) for location, new in zip(sound, copied, strict=True)]
        if moved:
            with catalogue.atomic():
                catalogue.relocate(moved, tail.rows)
    except BaseException:
        # `tail.rows` does not have the segment in which an append failed, hence one more.
        _remove_copies(catalogue, segments, range(tail.first, max(tail.rows, default=tail.first - 1) + 2))
        raise
    return len(moved)


def _remove_copies(catalogue: Catalogue, segments: Segments, numbers: range) -> None:
    """Remove new segments that were not committed, if possible; otherwise the next writer removes them."""
    with contextlib.suppress(OSError, IndexDamaged, sqlite3.Error):
        # An interrupt may have come after the commit.
        for number in set(numbers) - set(catalogue.segments()):
            with contextlib.suppress(FileNotFoundError):
                durable.disk.unlink(segments.path(number))


def _worth_rewriting(catalogue: Catalogue, segments: Segments, rows: dict[int, int]) -> list[int]:
    """Return the segments with rows of no image, and those that are not full if at least two segments become one."""
    used = dict.fromkeys(rows, 0)
    for location in catalogue.locations(include_missing=True):
        used[location.segment] += 1
    with_unused_rows = [number for number in rows if used[number] < rows[number]]
    not_full = [number for number in rows if rows[number] < segments.capacity]
    return sorted({*with_unused_rows, *(not_full if len(not_full) > 1 or with_unused_rows else ())})


def _sound(
    segments: Segments, locations: list[Location], maps: dict[int, Stored], *, skip_damaged: bool
) -> Iterator[Location]:
    for location in locations:
        if has_crc(maps[location.segment], location):
            yield location
        elif not skip_damaged:
            name = os.path.basename(segments.path(location.segment))
            raise IndexDamaged(f"the vector of image {location.id} is damaged in {name}")
