"""imgindex bench: how fast this machine is with these images, step by step."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit, remark

if TYPE_CHECKING:
    from imgindex.benching import BenchReport
    from imgindex.embedding.recipe import Recipe


def command(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Files and folders.")],
    index: Annotated[
        str | None, typer.Option("--index", metavar="DIR", help="Measure with the recipe of this index.")
    ] = None,
    recipe: options.RecipeName = "auto",
    size: options.Size = None,
    weights: options.Weights = None,
    device: options.DeviceName = "auto",
    precision: options.Precision = "auto",
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    images: Annotated[int, typer.Option(metavar="N", min=1, help="Measure on so many of them.")] = 256,
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """Measure each step of `add` on this machine with these images, alone and together; keeps nothing."""
    from imgindex.benching import bench
    from imgindex.index import ImageIndex
    from imgindex.types import Engine

    chosen = choose_format(format, json, out)
    if quiet:
        logging.getLogger("imgindex").setLevel(logging.WARNING)
    known: Recipe | None = None
    if index is not None:
        with ImageIndex.open(options.find_index(index)) as opened:
            opened.require(recipe=recipe, size=size)
            known = opened.recipe
    report = bench(
        paths,
        recipe=known or recipe,
        size=None if known else size,
        weights=weights,
        engine=Engine(device, precision, batch_size, workers),
        images=images,
    )
    _show(report, chosen, out, quiet=quiet)
    return 0


def _show(report: BenchReport, format: str, out: str | None, *, quiet: bool) -> None:
    from imgindex.reports.formats import Document

    content: dict[str, Any] = asdict(report)
    content["steps"] = [
        {**asdict(step), "images_per_second": round(step.images_per_second, 2)} for step in report.steps
    ]
    rows = [
        {
            "step": step.name,
            "images/s": f"{step.images_per_second:,.1f}",
            "ms an image": f"{1000 * step.seconds / max(1, step.images):.3f}",
        }
        for step in report.steps
    ]
    rows.append(
        {"step": "together", "images/s": f"{report.together:,.1f}", "ms an image": f"{1000 / report.together:.3f}"}
    )
    emit(Document(content, rows, ["step", "images/s", "ms an image"]), format, out)
    if format == "table":
        remark(
            f"{report.recipe} at {report.side} px, {report.device}, {report.precision}: {report.workers} decoders, "
            f"{report.lanes} batches of {report.batch_size} at once, {report.images} images",
            quiet=quiet,
        )
        remark(
            f"ceiling {report.ceiling:,.1f} images/s, most of it for: {report.limit}; "
            f"together {report.together / report.ceiling:.0%} of it",
            quiet=quiet,
        )
