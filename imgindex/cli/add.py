"""imgindex add: files to vectors."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from imgindex.cli import options
from imgindex.cli.naming import named
from imgindex.cli.output import choose_format, emit, progress, remark, show_failures

if TYPE_CHECKING:
    from imgindex.index import ImageIndex
    from imgindex.types import AddReport, Engine

COLUMNS = ("found", "added", "updated", "renamed", "unchanged", "reused", "removed", "restored", "failed")


def command(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Files and folders; - reads paths from stdin.")],
    index: options.Index = None,
    recipe: options.RecipeName = "auto",
    size: options.Size = None,
    weights: options.Weights = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="fp32, or fp16 for half the space; for a new index.", show_default="fp32"),
    ] = None,
    device: options.DeviceName = "auto",
    precision: options.Precision = "auto",
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Leave out what matches; may be repeated.")
    ] = None,
    null: Annotated[bool, typer.Option("-0", "--null", help="Paths from stdin end in NUL, not newline.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try known failures again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done, by names and times.")] = False,
    assign: Annotated[
        bool, typer.Option("--assign", help="Put new images into the clusters of the newest clustering.")
    ] = False,
    wait: options.Wait = False,
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
    quiet: options.Quiet = False,
) -> int:
    """Bring the index up to date with files and folders; makes it when there is none.

    Unchanged images are not opened; renamed and copied ones are not embedded again; those that are gone are shown
    no more. A file that cannot be read is a failure: listed, and not tried again until it changes.
    """
    from imgindex.adding.survey import check_roots
    from imgindex.types import Engine

    chosen = choose_format(format, json, out)
    roots = check_roots(named(paths, null=null, command="add"))
    engine = Engine(device, precision, batch_size, workers)
    with contextlib.ExitStack() as stack:
        where = options.place_index(index)
        if dry_run and not os.path.exists(where):
            where = stack.enter_context(tempfile.TemporaryDirectory())
        opened = stack.enter_context(_open(where, recipe, size, weights, store, engine))
        opened.wait = wait
        if assign:
            opened.clustering()  # before the work: there may be none
        on_progress = stack.enter_context(progress(quiet=quiet))
        stop = stack.enter_context(_first_interrupt())
        report = opened.add(
            roots,
            exclude=exclude or (),
            retry_failed=retry_failed,
            dry_run=dry_run,
            on_progress=on_progress,
            stop=lambda: bool(stop),
        )
        done = not report.interrupted and not dry_run
        assigned = len(opened.assign().assigned) if assign and done else None
    _show(report, chosen, out, assigned=assigned, quiet=quiet)
    if not report.found and not report.interrupted:
        remark("no images there: folders are searched for files with the ending of an image", quiet=quiet)
    if report.interrupted:
        remark("imgindex: interrupted; what is done is kept, the same command goes on", quiet=quiet)
        return options.INTERRUPTED
    return options.SOME_FAILED if report.failed else 0


def _open(
    where: str, recipe: str, size: int | None, weights: str | None, store: str | None, engine: Engine
) -> ImageIndex:
    from imgindex.index import ImageIndex
    from imgindex.storage.store import exists

    if not exists(where):
        if os.path.lexists(where):
            os.scandir(where).close()  # before weights are looked for: it may be a file, or closed to us
        return ImageIndex.create(where, recipe=recipe, size=size, weights=weights, store=store or "fp32", engine=engine)
    opened = ImageIndex.open(where, weights=weights, engine=engine)
    opened.require(recipe=recipe, size=size, store=store)
    return opened


@contextlib.contextmanager
def _first_interrupt() -> Iterator[list[int]]:
    """Lend a list that is not empty after the first Ctrl-C; the second one interrupts at once."""
    seen: list[int] = []

    def note(number: int, frame: object) -> None:
        seen.append(number)
        # Before it is said: whoever reads it may press the keys at once.
        signal.signal(signal.SIGINT, before)
        remark("imgindex: finishing this batch (Ctrl-C again to stop at once) …")

    before = signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def _show(report: AddReport, format: str, out: str | None, *, assigned: int | None, quiet: bool) -> None:
    from imgindex.reports.formats import Document

    known = report.failed - len(report.failures)
    show_failures(report.failures, known, quiet=quiet)
    counts = {name: value for name, value in asdict(report).items() if name not in ("failures", "interrupted")}
    counts |= {} if assigned is None else {"assigned": assigned}
    if format == "paths":
        rows = [{"path": failure.path} for failure in report.failures]
    elif format == "table":
        named = [*COLUMNS, *(["assigned"] if assigned is not None else [])]
        rows = [{"images": name, "count": counts[name]} for name in named if counts[name] or name == "found"]
        emit(Document(counts, rows, ["images", "count"]), format, out)
        remark(f"{report.seconds:.1f} s, {report.images_per_second:,.1f} images/s", quiet=quiet)
        return
    else:
        rows = [counts]
    emit(Document(counts, rows, list(counts)), format, out)
