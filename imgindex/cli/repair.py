"""imgindex repair: mend what is damaged."""

from __future__ import annotations

from dataclasses import asdict

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit, progress, remark
from imgindex.reports.formats import Document


def command(
    index: options.Index = None,
    weights: options.Weights = None,
    device: options.DeviceName = "auto",
    precision: options.Precision = "auto",
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    wait: options.Wait = False,
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """Mend a damaged index: make lost vectors again from their images, drop by name what cannot be mended.

    An image whose file still has the same bytes is embedded again under its id; another one is dropped, and comes
    back with the next `imgindex add` if it is there. Ends with 3 when something was dropped.
    """
    from imgindex.index import ImageIndex
    from imgindex.types import Engine

    chosen = choose_format(format, json, out)
    engine = Engine(device, precision, batch_size, workers)
    with progress(quiet=quiet) as on_progress:
        report = ImageIndex.repair(
            options.find_index(index), weights=weights, engine=engine, wait=wait, on_progress=on_progress
        )
    for line in report.mended:
        remark(f"mended: {line}", quiet=quiet)
    rows = [{"path": failure.path, "reason": failure.reason} for failure in report.dropped]
    if rows or chosen != "table":
        emit(Document({**asdict(report), "dropped": rows}, rows, ["path", "reason"]), chosen, out)
    nothing = not (report.mended or report.embedded or rows)
    done = f"{report.embedded} vectors made again, {len(rows)} images dropped"
    remark("nothing was damaged" if nothing else done, quiet=quiet)
    return options.SOME_FAILED if rows else 0
