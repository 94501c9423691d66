"""imgindex bench: how fast each step of `add` is on this machine."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgindex.cli import options
from imgindex.cli.inputs import expand_paths
from imgindex.cli.output import choose_format, count, emit, remark
from imgindex.recipe import DEFAULT, Recipe

if TYPE_CHECKING:
    from imgindex.bench import BenchReport

COLUMNS = ["step", "images/s", "ms an image"]


def command(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Files and folders; - reads paths from stdin.")],
    null: options.Null = False,
    index: Annotated[
        str | None, typer.Option("--index", metavar="DIR", help="Measure with the recipe of this index.")
    ] = None,
    recipe: options.RecipeName = None,
    size: options.Size = None,
    weights: options.Weights = None,
    device: options.DeviceName = "auto",
    precision: options.Precision = "auto",
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    images: Annotated[int, typer.Option(metavar="N", min=1, help="How many images are measured at most.")] = 256,
    format: options.FormatWithoutPaths = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """Measure how fast `add` is on this machine.

    Each step is measured with these images, alone and together with the others. Nothing is kept.

    Examples:
      imgindex bench photos
      imgindex bench photos --size 160 --images 1000
    """
    from imgindex.bench import benchmark
    from imgindex.index import ImageIndex
    from imgindex.types import Engine

    chosen = choose_format(format, json, out)
    roots = expand_paths(paths, null=null, command="bench")
    if quiet:
        logging.getLogger("imgindex").setLevel(logging.WARNING)
    index_recipe: Recipe | None = None
    if index is not None:
        with ImageIndex.open(options.find_index(index)) as opened:
            opened.require(recipe=recipe, size=size)
            index_recipe = opened.recipe
    report = benchmark(
        roots,
        recipe=index_recipe or recipe or DEFAULT,
        size=None if index_recipe else size,
        weights=weights,
        engine=Engine(device, precision, batch_size, workers),
        images=images,
    )
    _print(report, chosen, out, quiet=quiet)
    return 0


def _print(report: BenchReport, format: str, out: str | None, *, quiet: bool) -> None:
    from imgindex.export.tables import Table

    data: dict[str, Any] = asdict(report)
    data["steps"] = [{**asdict(step), "images_per_second": round(step.images_per_second, 2)} for step in report.steps]
    speeds = [(step.name, step.images_per_second, step.seconds / max(1, step.images)) for step in report.steps]
    speeds.append(("together", report.together, 1 / report.together))
    rows = [
        {"step": name, "images/s": f"{speed:,.1f}", "ms an image": f"{1000 * seconds:.3f}"}
        for name, speed, seconds in speeds
    ]
    emit(Table(data, rows, COLUMNS), format, out)
    if format == "table":
        remark(
            f"{report.recipe} at {report.side} px, {report.device}, {report.precision}: "
            f"{count(report.images, 'image')}, {count(report.workers, 'decoder')}, "
            f"{count(report.streams, 'batch', 'batches')} of {report.batch_size} at once",
            quiet=quiet,
        )
        remark(
            f"ceiling {report.ceiling:,.1f} images/s, limited most by {report.limit}; "
            f"together {report.together / report.ceiling:.0%} of it",
            quiet=quiet,
        )
