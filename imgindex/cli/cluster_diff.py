"""imgindex cluster diff: what two clusterings tell differently."""

from __future__ import annotations

from typing import Annotated

import typer

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit, remark


def command(
    a: Annotated[int, typer.Argument(metavar="A", help="A clustering, by its id.")],
    b: Annotated[int, typer.Argument(metavar="B", help="Another one.")],
    index: options.Index = None,
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """List the images that stand in another cluster in B than in A, and say how far both agree.

    Clusters are told apart by their images, not by their numbers: those that share the most are taken for the same.
    """
    from imgindex.index import ImageIndex
    from imgindex.reports import clusters

    chosen = choose_format(format, json, out)
    with ImageIndex.open(options.find_index(index)) as opened:
        found = opened.diff(a, b)
    emit(clusters.diff(found), chosen, out)
    alone = f"; {a} alone has {found.only_a} more, {b} alone {found.only_b}" if found.only_a or found.only_b else ""
    remark(
        f"{len(found.moved)} of {found.images} images moved: ARI {found.ari:.3f}, NMI {found.nmi:.3f}{alone}",
        quiet=quiet,
    )
    return 0
