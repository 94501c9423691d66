"""Reads and writes the measured effect of half precision on answers, kept in the settings of the catalogue."""

from __future__ import annotations

import json
from dataclasses import asdict

from imgindex.storage.catalogue import Catalogue
from imgindex.types import PrecisionReport

KEY = "precision receipt "


def read(catalogue: Catalogue) -> dict[str, PrecisionReport]:
    """Return the reports by precision. A damaged report is left out: the next long run measures again."""
    import msgspec

    found = {}
    for key, value in catalogue.settings().items():
        if key.startswith(KEY):
            try:
                report = msgspec.json.decode(value, type=PrecisionReport)
            except (ValueError, RecursionError):
                continue
            if report.pictures > 0 and 0 <= report.overlap <= 1 and -1 <= report.cosine <= 1.01:
                found[report.precision] = report
    return found


def write(catalogue: Catalogue, report: PrecisionReport) -> None:
    """Record a report in the place of the older one of the same precision; the caller commits."""
    catalogue.set_setting(KEY + report.precision, json.dumps(asdict(report)))
