"""imgindex compact: free room."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit, remark
from imgindex.reports.formats import Document


def command(
    target_recall: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Share of true neighbours that searches above 100,000 images find from now on."
        ),
    ] = None,
    index: options.Index = None,
    wait: options.Wait = False,
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """Free the room of vectors that belong to no image any more, after removals and updates.

    Makes the search index of a large collection again where that is due, or its target recall another one.
    Others may read meanwhile. Needs free space for a copy of what it writes anew.
    """
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json, out)
    where = options.find_index(index)
    with ImageIndex.open(where) as opened:
        opened.wait = wait
        report = asdict(opened.compact(target_recall=target_recall))
    rows = [{"path": where}] if chosen == "paths" else [report]
    emit(Document(report, rows, list(report)), chosen, out)
    saved = (report["bytes_before"] - report["bytes_after"]) / 1e6
    remark(f"{report['rows_dropped']} vectors of no image dropped, {saved:,.1f} MB freed", quiet=quiet)
    return 0
