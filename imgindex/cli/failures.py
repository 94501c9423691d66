"""imgindex failures: the images that could not be read."""

from __future__ import annotations

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit, with_short_paths
from imgindex.export import documents
from imgindex.export.tables import Table


def command(
    index: options.Index = None,
    format: options.FormatName = None,
    json: options.Json = False,
    out: options.Out = None,
) -> int:
    """List the images that could not be read, and why.

    Each is listed with the stage at which it failed, the reason, and the time of the last attempt. It is tried again
    when its file changes, or by `imgindex add --retry-failed`.

    Examples:
      imgindex failures
      imgindex failures --format paths
    """
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json, out)
    with ImageIndex.open(options.find_index(index)) as opened:
        rows = documents.failures(with_short_paths(failure, "path") for failure in opened.failures())
    emit(Table(rows, rows, ["path", "stage", "reason", "tried_at"]), chosen, out, optional=["tried_at"])
    return 0
