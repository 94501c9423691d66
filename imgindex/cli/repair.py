"""imgindex repair: a damaged index made sound again."""

from __future__ import annotations

from dataclasses import asdict

from imgindex.cli import options
from imgindex.cli.output import choose_format, count, emit, progress, remark, short_path
from imgindex.export.tables import Table


def command(
    index: options.Index = None,
    weights: options.Weights = None,
    device: options.DeviceName = "auto",
    precision: options.Precision = "auto",
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    ray: options.Ray = None,
    wait: options.Wait = False,
    format: options.FormatName = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """Repair a damaged index.

    A lost vector is made again from its image, if the file still has the same bytes. Otherwise the image is dropped and
    listed; it comes back with the next `imgindex add` if the file is there. The command exits with 3 if an image was
    dropped.

    Examples:
      imgindex repair
      imgindex repair --index photos.imgindex --wait
    """
    from imgindex.index import ImageIndex
    from imgindex.types import Engine

    chosen = choose_format(format, json, out)
    engine = Engine(device, precision, batch_size, workers)
    with progress(quiet=quiet) as on_progress:
        report = ImageIndex.repair(
            options.find_index(index), weights=weights, engine=engine, ray=ray, wait=wait, on_progress=on_progress
        )
    for line in report.mended:
        remark(f"repaired: {line}", quiet=quiet)
    rows = [{"path": short_path(failure.path), "reason": failure.reason} for failure in report.dropped]
    if rows or chosen != "table":
        emit(Table({**asdict(report), "dropped": rows}, rows, ["path", "reason"]), chosen, out)
    if report.mended or report.embedded or rows:
        made, dropped = count(report.embedded, "vector"), count(len(rows), "image")
        remark(f"{made} made again, {dropped} dropped", quiet=quiet)
    else:
        remark("nothing was damaged", quiet=quiet)
    return options.SOME_FAILED if rows else 0
