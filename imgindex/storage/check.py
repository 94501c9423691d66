"""Checks an index against what its catalogue says; reads only."""

from __future__ import annotations

import os
from dataclasses import dataclass

from imgindex.errors import FormatTooNew, IndexDamaged
from imgindex.storage.connection import naming_damage
from imgindex.storage.store import Store


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that contradicts the catalogue: `kind` catalogue, segment, row or vector; what and where."""

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


def check(store: Store, *, full: bool = False) -> CheckReport:
    """Check catalogue, segment headers, sizes and rows; with `full`, every vector against its CRC32."""
    catalogue = store.catalogue
    problems: list[Problem] = []
    try:
        with naming_damage(catalogue.path), catalogue.snapshot():
            problems += [Problem("catalogue", "catalogue.db", line) for line in catalogue.integrity()]
            rows = catalogue.segments()
            places = list(catalogue.locations(hidden=True))
            images = catalogue.count()["images"]
    except IndexDamaged as error:
        return CheckReport(0, 0, 0, (*problems, Problem("catalogue", "catalogue.db", str(error))))
    for number, count in rows.items():
        try:
            store.segments.map(number, count)
        except (IndexDamaged, FormatTooNew) as error:
            problems.append(Problem("segment", os.path.basename(store.segments.path(number)), str(error)))
    for place in places:
        if place.row >= rows.get(place.segment, 0):
            where = f"segment {place.segment} row {place.row}"
            problems.append(Problem("row", f"image {place.id}", f"its vector lies outside the committed rows: {where}"))
    # A longer file is no damage: it is what a run leaves that died before its commit, or one that writes right now.
    if full:
        for place in store.segments.damaged(places, rows):
            where = f"{os.path.basename(store.segments.path(place.segment))} row {place.row}"
            problems.append(Problem("vector", f"image {place.id}", f"its bytes do not have their CRC32: {where}"))
    return CheckReport(images, len(rows), len(places) if full else 0, tuple(problems))
