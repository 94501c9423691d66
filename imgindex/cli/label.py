"""imgindex label: names for clusters."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit
from imgindex.errors import UsageError
from imgindex.export.tables import Table


def command(
    label: Annotated[int, typer.Argument(metavar="LABEL", min=0, help="The label of a cluster.")],
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Its new name.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove its name.")] = False,
    clustering: Annotated[
        int | None, typer.Option(metavar="ID", help="The clustering that has the label.", show_default="the newest")
    ] = None,
    index: options.Index = None,
    wait: options.Wait = False,
    format: options.FormatWithoutPaths = None,
    json: options.Json = False,
    out: options.Out = None,
) -> int:
    """Give a cluster a name, which later clusterings keep.

    All answers show the name beside the label. Later clusterings keep it as long as the cluster stays the same.

    Examples:
      imgindex label 3 invoices
      imgindex label 3 --clear
    """
    from imgindex.index import ImageIndex

    if (name is None) != clear:
        raise UsageError("give either a NAME or --clear", hint="for example `imgindex label 3 invoices`")
    chosen = choose_format(format, json, out)
    with ImageIndex.open(options.find_index(index), wait=wait) as opened:
        found = opened.clusterings.rename_cluster(label, name, clustering=clustering)
    row = {"label": found.label, "cluster": found.id, "name": found.name or "", "images": found.size}
    emit(Table(asdict(found), [row], list(row)), chosen, out)
    return 0
