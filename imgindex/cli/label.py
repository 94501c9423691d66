"""imgindex label: names for clusters."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit
from imgindex.errors import UsageError
from imgindex.reports.formats import Document


def command(
    label: Annotated[int, typer.Argument(metavar="LABEL", min=0, help="The label of a cluster.")],
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="What it is to be called.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take its name away.")] = False,
    clustering: Annotated[
        int | None, typer.Option(metavar="ID", help="The clustering that has the label.", show_default="the newest")
    ] = None,
    index: options.Index = None,
    wait: options.Wait = False,
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
) -> int:
    """Give a cluster a name, which every answer then shows, and which stays with the cluster in later clusterings."""
    from imgindex.index import ImageIndex

    if (name is None) != clear:
        raise UsageError("give a NAME or --clear", hint="say imgindex label 3 invoices")
    chosen = choose_format(format, json, out)
    with ImageIndex.open(options.find_index(index)) as opened:
        opened.wait = wait
        found = opened.label(label, name, clustering=clustering)
    row = {"label": found.label, "cluster": found.id, "name": found.name or "", "images": found.size}
    emit(Document(asdict(found), [row], list(row)), chosen, out)
    return 0
