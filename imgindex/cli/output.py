"""All output of the commands: answers to stdout or a file, progress and remarks to stderr, and how values are written.

No other file of the package prints.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from imgindex.cli import terminal
from imgindex.cli.flags import in_flags
from imgindex.cli.options import Format
from imgindex.errors import UsageError
from imgindex.storage.paths import display_path

if TYPE_CHECKING:
    from imgindex.export.tables import Table
    from imgindex.types import Failure, OnProgress, Progress

Record = TypeVar("Record")

# How many items of a long list a remark names.
NAMED = 5
FAILURES_NAMED = 10
# Progress with a bar, the rate and the remaining time needs this many columns.
WIDE = 60


@dataclass(slots=True)
class Settings:
    """What holds for all output of a command; files.py sets it.

    overwrite: files that imgindex did not write are replaced. null: printed paths end in NUL. is_stdout_taken: stdout
    gets a file, and not the answer. unprintable: how many rows were not printed, because of the names in them.
    """

    overwrite: bool = False
    null: bool = False
    is_stdout_taken: bool = False
    unprintable: int = 0


settings = Settings()


class OutputClosed(Exception):
    """The reader of stdout has closed it, as `head` does."""


def reserve_standard_streams() -> None:
    """Open /dev/null in the place of each standard stream that is closed.

    Otherwise the next file that the process opens would get the stream's number, and a library that warns on stderr
    would write into it. Remarks for a closed stderr are lost; an answer for a closed stdout is still an error.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The help has characters that the encoding of the terminal may lack. Answers are bytes in UTF-8.
        sys.stdout.reconfigure(errors="replace")


def choose_format(given: Format | None, json: bool, out: str | None = None) -> str:
    """Return the format of an answer: as asked, else by the ending of the file, else a table. Raises UsageError."""
    if out == "":
        raise UsageError("--out '' names no file", hint="is a variable empty?")
    if json:
        return "json"
    if given is not None:
        return given.value
    if out is None:
        return "table"
    from imgindex.export.tables import ENDINGS

    suffix = os.path.splitext(out)[1].lower()
    if suffix not in ENDINGS:
        raise UsageError(
            f"the ending of {out!r} does not name a format", hint=f"use one of {' '.join(ENDINGS)}, or give --format"
        )
    return ENDINGS[suffix]


def emit(table: Table, format: str, out: str | None = None, *, optional: Sequence[str] = ()) -> None:
    """Print an answer, or write it to a file that appears when it is complete.

    optional: columns that a table on a narrow terminal may lack.
    """
    from imgindex.export.tables import render

    table = _printable_rows(table, format)
    if out is not None:
        from imgindex.export.targets import writing

        with writing(out, overwrite=settings.overwrite) as file:
            file.write(render(table, format, null=settings.null))
        return
    if settings.is_stdout_taken:
        return
    columns = terminal.columns_of(sys.stdout)
    if format == "table":
        table = terminal.fit(table, columns, optional)
        if columns is not None and terminal.is_too_narrow(table, columns):
            write(terminal.as_records(table, columns))
            return
    write(render(table, format, width=columns, null=settings.null))


def emit_each(tables: Iterable[Table], format: str, out: str | None = None) -> None:
    """Print the parts of an answer as they come, in a format of lines; a file appears when it is complete."""
    from imgindex.export.tables import render
    from imgindex.export.targets import writing

    rendered = (
        render(_printable_rows(replace(table, header=not number), format), format, null=settings.null)
        for number, table in enumerate(tables)
    )
    if out is None:
        for part in rendered:
            if not settings.is_stdout_taken:
                write(part)
        return
    with writing(out, overwrite=settings.overwrite) as file:
        file.writelines(rendered)


def _printable_rows(table: Table, format: str) -> Table:
    """Return a table without the rows that a program could not parse, and print on stderr which ones these are."""
    from imgindex.export.tables import LINE_BREAKERS, printable

    breakers = "" if format == "paths" and settings.null else LINE_BREAKERS.get(format, "")
    columns = ["path"] if format == "paths" else table.columns
    rows, refused = [], []
    for row in table.rows:
        values = [str(row[name]) for name in columns] if breakers else []
        broken = next((value for value in values if any(char in value for char in breakers)), None)
        if broken is None:
            rows.append(row)
        else:
            refused.append(broken)
    if not refused:
        return table
    settings.unprintable += len(refused)
    way_out = "use -0" if format == "paths" else "use --format csv or json"
    for value in refused[:FAILURES_NAMED]:
        remark(f"not printed, because it would not be one line: {printable(value)}; {way_out}")
    if len(refused) > FAILURES_NAMED:
        remark(f"… and {len(refused) - FAILURES_NAMED:,} more")
    return replace(table, rows=rows)


def write(data: bytes) -> None:
    """Write bytes to stdout. Raises OutputClosed if its reader has closed it."""
    if sys.stdout is None:
        raise OSError("stdout is closed")
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        raise OutputClosed from error


def remark(text: str, *, quiet: bool = False) -> None:
    """Print on stderr what is not part of the answer; an stderr that cannot be written to is ignored.

    Parameters that the text names are shown as flags.
    """
    if not quiet:
        _print(terminal.wrap(in_flags(text), terminal.columns_of(sys.stderr)))


def _print(line: str, *, quiet: bool = False) -> None:
    if not quiet and sys.stderr is not None:
        text = line.encode("utf-8", "backslashreplace").decode()
        with contextlib.suppress(OSError):
            try:
                print(text, file=sys.stderr, flush=True)
            except RuntimeError:
                # A signal's handler prints while the interrupted code is printing: Python's buffer refuses that.
                os.write(sys.stderr.fileno(), f"{text}\n".encode())


def suggest(purpose: str, *commands: str, index: str | None, quiet: bool) -> None:
    """Suggest the next commands on stderr. index: what --index gave to this command, which the next one needs too."""
    remark(f"next: {purpose}", quiet=quiet)
    option = "" if index is None else f" --index {shlex.quote(index)}"
    for command in commands:
        # Not wrapped: a command is copied.
        _print(f"  imgindex {command}{option}", quiet=quiet)


def show_failures(failures: tuple[Failure, ...], known: int, *, quiet: bool) -> None:
    """Print at the end of a run which images failed and why. known: how many failures of earlier runs remain."""
    from imgindex.export.tables import printable

    for failure in failures[:FAILURES_NAMED]:
        remark(f"failed: {printable(failure.path)}: {printable(failure.reason)}", quiet=quiet)
    if len(failures) > FAILURES_NAMED:
        remark(f"… and {len(failures) - FAILURES_NAMED:,} more: `imgindex failures` lists all", quiet=quiet)
    if known:
        was = "image that failed before was" if known == 1 else "images that failed before were"
        remark(f"{known:,} {was} not tried again (--retry-failed tries them)", quiet=quiet)


@contextlib.contextmanager
def progress(*, quiet: bool) -> Iterator[OnProgress]:
    """Yield a function that draws progress on stderr, or draws nothing if stderr is not a terminal."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda event: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns: list[Any] = [SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn()]
    if console.width >= WIDE:
        columns[2:2] = [BarColumn(bar_width=40 if console.width >= 2 * WIDE else 20)]
        columns += [TextColumn("{task.fields[rate]}"), TimeRemainingColumn()]
        columns += [TextColumn("{task.fields[limit]}", style="dim")]
    with Bar(*columns, console=console, transient=True) as bar:
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
            nodes = count(event.nodes, "node")
            description = f"{event.stage} on {nodes}" if event.nodes else event.stage
            bar.update(
                task.id,
                description=description,
                completed=event.done,
                total=event.total or None,
                rate=rate,
                limit=limit,
            )

        yield on_progress


# How values are written.


def count(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 image", "1,200 images"."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def size(number: int) -> str:
    """Return a number of bytes in the largest unit that it fills: "812 B", "8.5 MB"."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        # 999.95 kB would be rounded to "1000.0 kB".
        if value < 999.95:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def duration(seconds: float) -> str:
    """Return a time in units that people use: "under 0.1 s", "16.5 s", "12 min", "3 h 5 min"."""
    if seconds < 0.05:
        return "under 0.1 s"
    if seconds < 99.95:
        return f"{seconds:,.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60} min"


def naming(items: Iterable[object]) -> str:
    """Return the first few items of a list, and how many more there are: "'a', 'b' and 3 more"."""
    texts = [repr(item) for item in items]
    more = f" and {len(texts) - NAMED:,} more" if len(texts) > NAMED else ""
    return ", ".join(texts[:NAMED]) + more


def short_path(path: str) -> str:
    """Return an absolute path relative to the current folder if it lies below it, else as it is."""
    return display_path(path, os.getcwd())


def with_short_paths(record: Record, *fields: str) -> Record:
    """Return a frozen dataclass in which the paths in these fields are as `short_path` returns them; None stays."""
    folder = os.getcwd()
    values: dict[str, Any] = {name: getattr(record, name) for name in fields}
    paths = {name: display_path(path, folder) for name, path in values.items() if path is not None}
    return replace(record, **paths)  # type: ignore[type-var]
