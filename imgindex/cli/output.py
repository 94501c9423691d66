"""The one door of the terminal: answers to stdout or a file, progress and remarks to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imgindex.cli.options import Format
from imgindex.errors import UsageError

if TYPE_CHECKING:
    from imgindex.reports.formats import Document
    from imgindex.types import Failure, OnProgress, Progress

FAILURES_SHOWN = 10


class OutputClosed(Exception):
    """Whoever read our output has closed it, as `head` does."""


def hold_standard_streams() -> None:
    """Keep the numbers of closed standard streams from going to files of ours, into which a library might then warn.

    What is meant for a closed stderr is lost; an answer for a closed stdout is still an error.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def choose_format(wanted: Format | None, json: bool, out: str | None = None) -> str:
    """Return the format of an answer: as asked, else by the file's ending, else a table. Raises UsageError."""
    if out == "":
        raise UsageError("--out '' names no file")
    if json:
        return "json"
    if wanted is not None:
        return wanted.value
    if out is None:
        return "table"
    from imgindex.reports.formats import ENDINGS

    suffix = os.path.splitext(out)[1].lower()
    if suffix not in ENDINGS:
        raise UsageError(
            f"the ending of {out!r} names no format", hint=f"use one of {' '.join(ENDINGS)}, or say --format"
        )
    return ENDINGS[suffix]


def emit(document: Document, format: str, out: str | None = None) -> None:
    """Print an answer, or write it to a file that appears when it is whole."""
    from imgindex.reports.formats import render

    if out is not None:
        from imgindex.reports.files import replacing

        with replacing(out) as file:
            file.write(render(document, format))
        return
    width = None
    if sys.stdout is not None and sys.stdout.isatty():
        width = os.get_terminal_size(sys.stdout.fileno()).columns
    write(render(document, format, width=width))


def emit_each(documents: Iterable[Document], format: str, out: str | None = None) -> None:
    """Print the parts of an answer as they come, in a format of lines; a file appears when it is whole."""
    from imgindex.reports.files import replacing
    from imgindex.reports.formats import render

    rendered = (render(replace(document, header=not number), format) for number, document in enumerate(documents))
    if out is None:
        for part in rendered:
            write(part)
        return
    with replacing(out) as file:
        file.writelines(rendered)


def write(data: bytes) -> None:
    """Write bytes to stdout. Raises OutputClosed when its reader has left."""
    if sys.stdout is None:
        raise OSError("stdout is closed")
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        raise OutputClosed from error


def remark(text: str, *, quiet: bool = False) -> None:
    """Say something on stderr that is not part of the answer."""
    if not quiet and sys.stderr is not None:
        line = text.encode("utf-8", "backslashreplace").decode()
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)


def show_failures(failures: tuple[Failure, ...], known: int, *, quiet: bool) -> None:
    """Tell at the end of a run which images failed and why."""
    from imgindex.reports.formats import printable

    for failure in failures[:FAILURES_SHOWN]:
        remark(f"failed: {printable(failure.path)}: {printable(failure.reason)}", quiet=quiet)
    if len(failures) > FAILURES_SHOWN:
        remark(f"… and {len(failures) - FAILURES_SHOWN} more; all of them: imgindex failures", quiet=quiet)
    if known:
        remark(f"{known} that failed before were not tried again (--retry-failed does)", quiet=quiet)


@contextlib.contextmanager
def progress(*, quiet: bool) -> Iterator[OnProgress]:
    """Lend a function that draws progress on stderr; where stderr is no terminal it draws nothing."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda event: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns: list[Any] = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[limit]}", style="dim"),
    ]
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def on_progress(event: Progress) -> None:
            if event.stage not in tasks:
                for earlier in tasks.values():
                    bar.update(earlier, visible=False)
                tasks[event.stage] = bar.add_task(event.stage, total=event.total or None, rate="", limit="")
            task = bar.tasks[bar.task_ids.index(tasks[event.stage])]
            elapsed = task.elapsed or 0.0
            rate = f"{event.done / elapsed:,.1f} {event.unit}/s" if event.done and elapsed else ""
            limit = f"waits for {event.limit}" if event.limit else ""
            bar.update(task.id, completed=event.done, total=event.total or None, rate=rate, limit=limit)

        yield on_progress
