"""imgindex failures: the ledger."""

from __future__ import annotations

from dataclasses import asdict

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit
from imgindex.reports.formats import Document


def command(
    index: options.Index = None,
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
) -> int:
    """List the images that could not be read: at which stage, why, and when that was tried."""
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json, out)
    with ImageIndex.open(options.find_index(index)) as opened:
        rows = [asdict(failure) for failure in opened.failures()]
    emit(Document(rows, rows, ["path", "stage", "reason", "tried_at"]), chosen, out)
    return 0
