"""Checks an index against what its catalogue says; reads only, and opens what nothing else would open."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from imgindex.errors import FormatTooNew, IndexDamaged
from imgindex.storage import checksum, derived
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.paths import PathMap
from imgindex.storage.records import Location
from imgindex.storage.segments import Segments, Stored
from imgindex.storage.store import CATALOGUE, TRIES, check_exists


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that contradicts the catalogue: `kind` catalogue, segment, row, vector or derived; what and where."""

    kind: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `verify` looked at and found; an index is sound when there are no problems."""

    images: int
    segments: int
    vectors_read: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def check(path: str, *, full: bool = False) -> CheckReport:
    """Check catalogue, segment headers, sizes and rows of the index at `path`; with `full`, every vector's CRC32 too.

    Raises IndexNotFound or FormatTooNew; whatever is damaged is a problem in the report.
    """
    path = os.path.abspath(path)
    try:
        check_exists(path, path)
    except IndexDamaged as error:
        return CheckReport(0, 0, 0, (Problem("catalogue", CATALOGUE, str(error)),))
    database = os.path.join(path, CATALOGUE)
    problems = list(_checksum(database))
    try:
        with closing(Catalogue(database, PathMap(path))) as catalogue:
            report = _check(path, catalogue, full=full)
    except FormatTooNew:
        raise
    except (IndexDamaged, sqlite3.Error) as error:
        return CheckReport(0, 0, 0, (*problems, Problem("catalogue", CATALOGUE, str(error))))
    except (TypeError, ValueError, OverflowError) as error:
        detail = f"it holds something else where numbers and texts should be: {error}"
        return CheckReport(0, 0, 0, (*problems, Problem("catalogue", CATALOGUE, detail)))
    return CheckReport(report.images, report.segments, report.vectors_read, (*problems, *report.problems))


def _checksum(database: str) -> Iterator[Problem]:
    if checksum.exists(database) and checksum.stored(database) is None:
        name = os.path.basename(database) + checksum.ENDING
        yield Problem("catalogue", name, "it cannot be read; the next `add` or `repair` writes it again")
    try:
        checksum.check(database)
    except IndexDamaged as error:
        yield Problem("catalogue", CATALOGUE, str(error))


def _check(path: str, catalogue: Catalogue, *, full: bool, tries: int = TRIES) -> CheckReport:
    try:
        segments = Segments.from_settings(os.path.join(path, "segments"), catalogue.settings())
    except (KeyError, ValueError) as error:
        raise IndexDamaged(f"{catalogue.path} lacks what an index must say of itself: {error!r}") from error
    with catalogue.snapshot():
        rows = catalogue.segments()
        maps, unmapped = _mapped(segments, rows)
        problems = [Problem("catalogue", CATALOGUE, line) for line in catalogue.integrity()] + unmapped
        places = list(catalogue.locations(hidden=True))
        problems += _outside(places, rows)
        # A longer file is no damage: a run left it that died before its commit, or one writes it right now.
        problems += _damaged(segments, places, maps) if full else []
        problems += _derived(path, catalogue) if full else []
        images = catalogue.count()["images"]
    if unmapped and tries and catalogue.segments() != rows:
        return _check(path, catalogue, full=full, tries=tries - 1)  # a compaction took a segment away meanwhile
    return CheckReport(images, len(rows), len(places) if full else 0, tuple(problems))


def _mapped(segments: Segments, rows: dict[int, int]) -> tuple[dict[int, Stored], list[Problem]]:
    maps, problems = {}, []
    for number, count in rows.items():
        try:
            maps[number] = segments.map(number, count)
        except (IndexDamaged, FormatTooNew) as error:
            problems.append(Problem("segment", os.path.basename(segments.path(number)), str(error)))
    return maps, problems


def _outside(places: list[Location], rows: dict[int, int]) -> list[Problem]:
    return [
        Problem(
            "row",
            f"image {place.id}",
            f"its vector lies outside the committed rows: segment {place.segment} row {place.row}",
        )
        for place in places
        if not 0 <= place.row < rows.get(place.segment, 0)
    ]


def _damaged(segments: Segments, places: list[Location], maps: dict[int, Stored]) -> list[Problem]:
    return [
        Problem(
            "vector",
            f"image {place.id}",
            f"its bytes do not have their CRC32: {os.path.basename(segments.path(place.segment))} row {place.row}",
        )
        for place in segments.damaged(places, maps)
    ]


def _derived(path: str, catalogue: Catalogue) -> list[Problem]:
    """Derived files that are there and are not what was written; one that is missing may be made again at any time."""
    problems = []
    for file in derived.all_recorded(catalogue):
        where = os.path.join(path, derived.FOLDER, file.name)
        with derived.opened(where, file.sha256, file.size) as opened:
            if opened is None and os.path.lexists(where):
                detail = "it is not what was written: nothing reads it, and the next `add` makes it again"
                problems.append(Problem("derived", file.name, detail))
    return problems
