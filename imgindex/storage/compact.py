"""Writes anew what is worth it: segments without the rows that belong to no image, the catalogue without its holes."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator
from itertools import islice

import numpy as np

from imgindex.errors import IndexDamaged
from imgindex.storage import durable
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.records import Location
from imgindex.storage.segments import Segments, Stored, Tail, has_crc
from imgindex.storage.store import Store
from imgindex.types import CompactReport

COPIED_BYTES = 64 << 20  # of vectors in memory at once


def compact(store: Store, *, wait: Callable[[], bool] = lambda: False) -> CompactReport:
    """Free the room of rows that belong to no image any more; whoever reads meanwhile is not disturbed.

    Images that are hidden keep their vectors. Needs room for a copy of the segments that it writes anew.

    Raises IndexLocked, or IndexDamaged (and changes nothing) when a vector does not have its CRC32.
    """
    started, before = time.perf_counter(), store.bytes_on_disk()
    with store.writing(wait=wait) as writer:
        catalogue, segments = writer.catalogue, writer.segments
        rows = catalogue.segments()
        loose = _loose(catalogue, segments, rows)
        kept = rewrite(catalogue, segments, loose)
        with catalogue.atomic():
            catalogue.drop_segments(loose)
        for number in loose:
            durable.remove(segments.path(number))
        durable.disk.execute(catalogue.path, catalogue.connection, "vacuum")
        after_segments = len(catalogue.segments())
    after = store.bytes_on_disk()
    return CompactReport(
        rows_dropped=sum(rows[number] for number in loose) - kept,
        segments_before=len(rows),
        segments_after=after_segments,
        bytes_before=before["catalogue"] + before["segments"],
        bytes_after=after["catalogue"] + after["segments"],
        seconds=round(time.perf_counter() - started, 3),
    )


def rewrite(catalogue: Catalogue, segments: Segments, numbers: Collection[int], *, skip_damaged: bool = False) -> int:
    """Copy the rows that belong to images out of these segments into new ones, in one commit; return how many.

    skip_damaged: leave vectors without their CRC32 where they are, instead of raising IndexDamaged.
    """
    places = iter([place for place in catalogue.locations(hidden=True) if place.segment in numbers])
    maps = {number: segments.salvage(number) if skip_damaged else segments.map(number, rows)
            for number, rows in catalogue.segments().items() if number in numbers}  # fmt: skip
    tail = Tail(segments, {}, first=catalogue.next_segment())
    moved: list[Location] = []
    try:
        while part := list(islice(places, max(1, COPIED_BYTES // segments.row_size))):
            sound = list(_sound(segments, part, maps, skip_damaged=skip_damaged))
            if sound:
                copied = tail.append(np.stack([maps[place.segment][place.row] for place in sound]))
                moved += [Location(place.id, *new) for place, new in zip(sound, copied, strict=True)]
        if moved:
            with catalogue.atomic():
                catalogue.relocate(moved, tail.rows)
    except BaseException:
        # The one that it failed in is not among those that were written.
        _clear_away(catalogue, segments, range(tail.first, max(tail.rows, default=tail.first - 1) + 2))
        raise
    return len(moved)


def _clear_away(catalogue: Catalogue, segments: Segments, numbers: range) -> None:
    """Give back the room of what was copied for nothing, if it can be done; the next writer does it otherwise."""
    with contextlib.suppress(OSError, IndexDamaged, sqlite3.Error):
        # An interrupt may have come when the commit was through.
        for number in set(numbers) - set(catalogue.segments()):
            with contextlib.suppress(FileNotFoundError):
                durable.disk.unlink(segments.path(number))


def _loose(catalogue: Catalogue, segments: Segments, rows: dict[int, int]) -> list[int]:
    """The segments that are worth to be written anew: those with rows of no image, and small ones before the last."""
    living = dict.fromkeys(rows, 0)
    for place in catalogue.locations(hidden=True):
        living[place.segment] += 1
    dead = [number for number in rows if living[number] < rows[number]]
    small = [number for number in rows if rows[number] < segments.capacity]
    return sorted({*dead, *(small if len(small) > 1 or dead else ())})


def _sound(
    segments: Segments, places: list[Location], maps: dict[int, Stored], *, skip_damaged: bool
) -> Iterator[Location]:
    for place in places:
        if has_crc(maps[place.segment], place):
            yield place
        elif not skip_damaged:
            name = os.path.basename(segments.path(place.segment))
            raise IndexDamaged(f"the vector of image {place.id} is damaged in {name}")
