"""imgindex compact: disk space freed, and the search index renewed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from imgindex.cli import options
from imgindex.cli.output import choose_format, count, emit, progress, remark, size
from imgindex.export.tables import Table


def command(
    target_recall: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="From now on: share of true neighbours that searches of 100,000 images and more find."
        ),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="From now on: let a Milvus server search, milvus://HOST:PORT/COLLECTION, or this machine: local.",
        ),
    ] = None,
    index: options.Index = None,
    wait: options.Wait = False,
    format: options.FormatName = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """Free the disk space of removed and changed images.

    Also makes the search index of a large collection again, if that is due or its target recall changes. Other
    processes may read meanwhile. Needs free space for a copy of what it writes again. Where a Milvus server searches,
    compares what it has with the index, and sends it the rest. Its credentials come from the environment (MILVUS_TOKEN,
    or MILVUS_USER and MILVUS_PASSWORD; MILVUS_SECURE=1 for TLS).

    Examples:
      imgindex compact
      imgindex compact --target-recall 0.99
    """
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json, out)
    where = options.find_index(index)
    with ImageIndex.open(where, wait=wait) as opened, progress(quiet=quiet) as on_progress:
        report = asdict(opened.compact(target_recall=target_recall, search=search, on_progress=on_progress))
    rows = [{"path": where}] if chosen == "paths" else [report]
    emit(Table(report, rows, list(report)), chosen, out)
    # The catalogue may have grown by a page while no vector was dropped.
    freed = max(0, report["bytes_before"] - report["bytes_after"])
    remark(f"{count(report['rows_dropped'], 'unused vector')} dropped, {size(freed)} freed", quiet=quiet)
    return 0
