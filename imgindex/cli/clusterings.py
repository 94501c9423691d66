"""imgindex clusterings: the clusterings that are kept."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit, remark
from imgindex.reports.formats import Document

COLUMNS = ["id", "made_at", "k", "seed", "images", "objective", "seconds", "names"]


def command(
    forget: Annotated[
        list[int] | None, typer.Option("--forget", metavar="ID", help="Keep this one no longer; may be repeated.")
    ] = None,
    index: options.Index = None,
    wait: options.Wait = False,
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """List the clusterings that are kept, the oldest first, as they are after --forget.

    `imgindex cluster --replay ID --json` prints the whole receipt of one.
    """
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json, out)
    with ImageIndex.open(options.find_index(index)) as opened:
        opened.wait = wait
        for id in forget or ():
            opened.forget(id)
        found = [asdict(one) for one in opened.clusterings()]
    rows = [{**one, "names": ", ".join(name for name in one["names"] if name)} for one in found]
    emit(Document(found, rows, COLUMNS), chosen, out)
    if not found:
        remark("no clustering is kept: imgindex cluster -k K makes one", quiet=quiet)
    return 0
