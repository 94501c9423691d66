"""imgindex compact: free room."""

from __future__ import annotations

from dataclasses import asdict

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit, remark
from imgindex.reports.formats import Document


def command(
    index: options.Index = None,
    wait: options.Wait = False,
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """Free the room of vectors that belong to no image any more, after removals and updates.

    Others may read meanwhile. Needs free space for a copy of what it writes anew.
    """
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json, out)
    where = options.find_index(index)
    with ImageIndex.open(where) as opened:
        opened.wait = wait
        report = asdict(opened.compact())
    rows = [{"path": where}] if chosen == "paths" else [report]
    emit(Document(report, rows, list(report)), chosen, out)
    saved = (report["bytes_before"] - report["bytes_after"]) / 1e6
    remark(f"{report['rows_dropped']} vectors of no image dropped, {saved:,.1f} MB freed", quiet=quiet)
    return 0
