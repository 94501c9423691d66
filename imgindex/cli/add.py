"""imgindex add: files into the index."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from imgindex.cli import options
from imgindex.cli.inputs import expand_paths
from imgindex.cli.output import (
    choose_format,
    count,
    duration,
    emit,
    progress,
    remark,
    show_failures,
    suggest,
    with_short_paths,
)
from imgindex.errors import UsageError
from imgindex.export.tables import printable
from imgindex.recipe import DEFAULT

if TYPE_CHECKING:
    from imgindex.index import ImageIndex
    from imgindex.results import AddReport
    from imgindex.types import Engine

# The most frequent endings of skipped files are named.
ENDINGS_NAMED = 8
# Sides in pixels below this one cost much; docs/decisions.md has the figures.
SMALL_SIDE = 192
SMALL_COST = "160 px lose 6 points of mAP against 320 px"
COUNTS = ("found", "added", "updated", "renamed", "unchanged", "reused", "removed", "restored", "failed", "blank")


def command(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH", help="Files, folders, zips, tars, addresses; - reads a list from stdin."),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="Read paths and addresses from a file, one a line.")
    ] = None,
    index: options.Index = None,
    recipe: options.RecipeName = None,
    size: options.Size = None,
    weights: options.Weights = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="For a new index: fp32, or fp16 for half the space.", show_default="fp32"),
    ] = None,
    device: options.DeviceName = "auto",
    precision: options.Precision = "auto",
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    ray: options.Ray = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Leave out what matches; may be repeated.")
    ] = None,
    null: options.Null = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try known failures again.")] = False,
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Read every file again, and compare its bytes with those that were added.")
    ] = False,
    archives: Annotated[
        bool, typer.Option("--archives", help="Search the zips and tars in folders too; named ones always are.")
    ] = False,
    anonymous: Annotated[
        bool | None,
        typer.Option(
            "--anonymous/--no-anonymous",
            help="From now on, read these buckets without credentials.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, by names and times; change nothing.")
    ] = False,
    assign: Annotated[
        bool, typer.Option("--assign", help="Put new images into the clusters of the newest clustering.")
    ] = False,
    wait: options.Wait = False,
    format: options.FormatName = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """Add images to the index, and bring it up to date.

    Folders are searched with all folders in them. A zip or tar is read in place, like a folder: its images have names
    such as set.zip/cat/1.jpg. So are the objects below s3://BUCKET/PREFIX, gs:// and az://, with keys from the
    environment; https://HOST/NAME.jpg is one image. The first run makes the index. Later runs open only files that are
    new or changed; renamed and copied images are recognised, and those whose files are gone no longer appear in
    answers. A file that cannot be read is listed, and not tried again until it changes. Files that are not images are
    counted by their ending.

    Examples:
      imgindex add photos test.zip
      find photos -name '*.jpg' | imgindex add -
    """
    from imgindex.ingest.run import check_new
    from imgindex.types import Engine

    chosen = choose_format(format, json, out)
    if not paths and source is None:
        raise UsageError(
            "no images are named", hint="name files and folders, or - for paths from stdin, or --from FILE"
        )
    roots = expand_paths(paths or [], source, null=null, command="add")
    engine = Engine(device, precision, batch_size, workers)
    with contextlib.ExitStack() as stack:
        where = options.find_or_place_index(index)
        if dry_run and not os.path.exists(where):
            where = stack.enter_context(tempfile.TemporaryDirectory())
        opened = stack.enter_context(
            _open(
                where,
                lambda: check_new(roots, anonymous),
                recipe=recipe,
                size=size,
                weights=weights,
                store=store,
                engine=engine,
                wait=wait,
                quiet=quiet,
            )
        )
        if assign:
            # Raises an error before the work if there is no clustering.
            _ = opened.clusterings.newest
        on_progress = stack.enter_context(progress(quiet=quiet))
        interrupts = stack.enter_context(_count_first_interrupt())
        report = opened.add(
            roots,
            exclude=exclude or (),
            retry_failed=retry_failed,
            rehash=rehash,
            archives=archives,
            anonymous=anonymous,
            dry_run=dry_run,
            ray=ray,
            on_progress=on_progress,
            stop=lambda: bool(interrupts),
        )
        done = not report.interrupted and not dry_run
        assigned = len(opened.clusterings.assign().assigned) if assign and done else None
        holds_images = len(opened) > 0
    report = replace(report, failures=tuple(with_short_paths(one, "path") for one in report.failures))
    _print(report, chosen, out, assigned=assigned, quiet=quiet)
    if not report.found and not report.interrupted:
        remark("no images found", quiet=quiet)
    for line in _skipped(report):
        remark(line, quiet=quiet)
    if report.search_behind:
        behind = f"search is behind by {count(report.search_behind, 'image')}: {report.search_problem}"
        remark(f"imgindex: {behind}; the next `add` or `imgindex compact` catches up")
    if report.interrupted:
        remark("imgindex: interrupted; finished batches are kept, and the same command continues", quiet=quiet)
        return options.INTERRUPTED
    if chosen == "table" and done and holds_images:
        suggest("cluster the images, or search", "cluster -k auto", "similar IMAGE", index=index, quiet=quiet)
    return options.SOME_FAILED if report.failed else 0


def _open(
    where: str,
    check: Callable[[], object],
    *,
    recipe: str | None,
    size: int | None,
    weights: str | None,
    store: str | None,
    engine: Engine,
    wait: bool,
    quiet: bool,
) -> ImageIndex:
    from imgindex.index import ImageIndex
    from imgindex.storage.store import exists

    if not exists(where):
        if os.path.lexists(where):
            # Raises an error, before weights are searched for, if this is a file or a folder without permission.
            os.scandir(where).close()
        check()
        made = ImageIndex.create(
            where, recipe=recipe or DEFAULT, size=size, weights=weights, store=store or "fp32", engine=engine, wait=wait
        )
        if made.recipe.side < SMALL_SIDE:
            remark(f"{made.recipe.side} px are fast, but whole photographs find less: {SMALL_COST}", quiet=quiet)
        return made
    opened = ImageIndex.open(where, weights=weights, engine=engine, wait=wait)
    opened.require(recipe=recipe, size=size, store=store)
    return opened


@contextlib.contextmanager
def _count_first_interrupt() -> Iterator[list[int]]:
    """Yield a list that the first Ctrl-C adds to, instead of interrupting; the second one interrupts at once."""
    interrupts: list[int] = []

    def note(number: int, frame: object) -> None:
        interrupts.append(number)
        # Before the remark: the user may press Ctrl-C again as soon as it appears.
        signal.signal(signal.SIGINT, before)
        remark("imgindex: finishing this batch (Ctrl-C again to stop at once) …")

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)


def _speed(report: AddReport) -> str:
    """Return how long the run took, and how fast it was if that was long enough to tell."""
    took = duration(report.seconds)
    return f"{took}, {report.images_per_second:,.1f} images/s" if report.found and report.seconds >= 1 else took


def _skipped(report: AddReport) -> Iterator[str]:
    """Yield lines on what was skipped in folders: files that are not images, by their ending, and other files."""
    from imgindex.decoding.plugins import RAW_ENDINGS
    from imgindex.sources.selection import ARCHIVE_ENDINGS

    by_ending = {ending: number for ending, number in report.skipped.items() if ending}
    parts = [f"{number:,} {printable(ending)}" for ending, number in list(by_ending.items())[:ENDINGS_NAMED]]
    if further := sum(list(by_ending.values())[ENDINGS_NAMED:]):
        parts.append(f"{further:,} with other endings")
    for number, what in (
        (report.skipped.get("", 0), "without ending"),
        (report.hidden, "hidden"),
        (report.excluded, "excluded"),
        (report.exported, "made by imgindex"),
    ):
        parts += [f"{number:,} {what}"] if number else []
    if parts:
        yield f"skipped: {', '.join(parts)}"
    if archives := sum(number for ending, number in by_ending.items() if ending in ARCHIVE_ENDINGS):
        yield f"{count(archives, 'archive')} can be searched: name them, or use --archives"
    if raw := sum(number for ending, number in by_ending.items() if ending in RAW_ENDINGS):
        yield f"{count(raw, 'camera raw file')} can be added after `pip install rawpy`"


def _print(report: AddReport, format: str, out: str | None, *, assigned: int | None, quiet: bool) -> None:
    from imgindex.export.tables import Table

    show_failures(report.failures, report.failed - len(report.failures), quiet=quiet)
    counts = {name: value for name, value in asdict(report).items() if name not in ("failures", "interrupted")}
    counts |= {} if assigned is None else {"assigned": assigned}
    skipped = ", ".join(f"{number} {ending or 'without ending'}" for ending, number in report.skipped.items())
    if format == "paths":
        emit(Table(counts, [{"path": failure.path} for failure in report.failures], ["path"]), format, out)
    elif format == "table":
        names = [*COUNTS, *(["assigned"] if assigned is not None else [])]
        rows = [{"images": name, "count": counts[name]} for name in names if counts[name] or name == "found"]
        emit(Table(counts, rows, ["images", "count"]), format, out)
        remark(_speed(report), quiet=quiet)
    else:
        emit(Table(counts, [{**counts, "skipped": skipped}], list(counts)), format, out)
