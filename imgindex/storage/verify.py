"""Checks an index against its catalogue. It only reads, and also opens an index that no other command can open."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from imgindex.errors import FormatTooNew, IndexDamaged
from imgindex.storage import checksum, derived
from imgindex.storage.catalogue import Catalogue, check_format
from imgindex.storage.paths import PathMap
from imgindex.storage.records import Location
from imgindex.storage.segments import Segments, Stored
from imgindex.storage.store import CATALOGUE, TRIES, check_exists
from imgindex.types import OnProgress, Progress, counted


@dataclass(frozen=True, slots=True)
class Problem:
    """A contradiction to the catalogue: `kind` (catalogue, segment, row, vector or derived), where it is, and what."""

    kind: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` checked and found; an index without problems is sound."""

    images: int
    segments: int
    vectors_read: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        return not self.problems

    def __repr__(self) -> str:
        found = f"{len(self.problems):,} problems, the first {str(self.problems[0])!r}" if self.problems else "sound"
        return f"<VerifyReport: {self.images:,} images in {self.segments:,} segments, {found}>"


def check(path: str, *, full: bool = False, on_progress: OnProgress = lambda progress: None) -> VerifyReport:
    """Check catalogue, segment headers, sizes and rows of the index at `path`; with `full`, every vector's CRC32 too.

    on_progress: called with how many vectors are read.

    Raises IndexNotFound or FormatTooNew; any damage is a problem in the report.
    """
    path = os.path.abspath(path)
    try:
        check_exists(path, path)
    except IndexDamaged as error:
        return VerifyReport(0, 0, 0, (Problem("catalogue", CATALOGUE, str(error)),))
    database = os.path.join(path, CATALOGUE)
    check_format(database)
    problems = list(_checksum(database))
    try:
        with closing(Catalogue(database, PathMap(path))) as catalogue:
            report = _check(path, catalogue, on_progress, full=full)
    except FormatTooNew:
        raise
    except (IndexDamaged, sqlite3.Error) as error:
        return VerifyReport(0, 0, 0, (*problems, Problem("catalogue", CATALOGUE, str(error))))
    except (TypeError, ValueError, OverflowError) as error:
        detail = f"it has a value of a wrong type: {error}"
        return VerifyReport(0, 0, 0, (*problems, Problem("catalogue", CATALOGUE, detail)))
    return VerifyReport(report.images, report.segments, report.vectors_read, (*problems, *report.problems))


def _checksum(database: str) -> Iterator[Problem]:
    if checksum.exists(database) and checksum.read(database) is None:
        name = os.path.basename(database) + checksum.ENDING
        yield Problem("catalogue", name, "it cannot be read; the next `add` or `repair` writes it again")
    try:
        checksum.check(database, whole=True)
    except IndexDamaged as error:
        yield Problem("catalogue", CATALOGUE, str(error))


def _check(path: str, catalogue: Catalogue, on_progress: OnProgress, *, full: bool, tries: int = TRIES) -> VerifyReport:
    on_progress(Progress("check the catalogue", 0, 0))
    try:
        segments = Segments.from_settings(os.path.join(path, "segments"), catalogue.settings())
    except (KeyError, ValueError) as error:
        raise IndexDamaged(f"{catalogue.path} lacks a setting of the index: {error!r}") from error
    with catalogue.snapshot():
        rows = catalogue.segments()
        maps, unmapped = _map(segments, rows)
        problems = [Problem("catalogue", CATALOGUE, line) for line in catalogue.integrity()] + unmapped
        locations = list(catalogue.locations(include_missing=True))
        problems += _outside(locations, rows)
        # A longer file is sound: a run may have died before its commit, or may be writing it right now.
        if full:
            problems += _damaged(segments, counted(locations, len(locations), "read vectors", on_progress), maps)
        problems += _derived(path, catalogue) if full else []
        images = catalogue.count()["images"]
    if unmapped and tries and catalogue.segments() != rows:
        return _check(
            path, catalogue, on_progress, full=full, tries=tries - 1
        )  # a compaction removed a segment meanwhile
    return VerifyReport(images, len(rows), len(locations) if full else 0, tuple(problems))


def _map(segments: Segments, rows: dict[int, int]) -> tuple[dict[int, Stored], list[Problem]]:
    maps, problems = {}, []
    for number, count in rows.items():
        try:
            maps[number] = segments.map(number, count)
        except IndexDamaged as error:
            problems.append(Problem("segment", os.path.basename(segments.path(number)), str(error)))
    return maps, problems


def _outside(locations: list[Location], rows: dict[int, int]) -> list[Problem]:
    return [
        Problem(
            "row",
            f"image {location.id}",
            f"its vector lies outside the committed rows: segment {location.segment} row {location.row}",
        )
        for location in locations
        if not 0 <= location.row < rows.get(location.segment, 0)
    ]


def _damaged(segments: Segments, locations: Iterable[Location], maps: dict[int, Stored]) -> list[Problem]:
    return [
        Problem(
            "vector",
            f"image {location.id}",
            f"its bytes do not have their CRC32: {os.path.basename(segments.path(location.segment))} "
            f"row {location.row}",
        )
        for location in segments.damaged(locations, maps)
    ]


def _derived(path: str, catalogue: Catalogue) -> list[Problem]:
    """Return the derived files whose bytes changed; a missing one is not a problem, as `add` makes it again."""
    problems = []
    for file in derived.all_recorded(catalogue):
        where = os.path.join(path, derived.FOLDER, file.name)
        with derived.opened(where, file.sha256, file.size) as opened:
            if opened is None and os.path.lexists(where):
                detail = "its bytes are not those that were written; it is not used, and the next `add` makes it again"
                problems.append(Problem("derived", file.name, detail))
    return problems
