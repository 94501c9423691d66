"""The command `imgindex`: the only place that catches errors, prints them and chooses the exit code."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import signal
import sqlite3
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from imgindex._version import VERSION
from imgindex.cli import (
    add,
    bench,
    cluster,
    clustering_edits,
    clusterings,
    compact,
    duplicates,
    export,
    failures,
    help,
    label,
    leak,
    list_,
    lookup,
    outliers,
    remove,
    repair,
    serve,
    similar,
    status,
    tag,
    verify,
)
from imgindex.cli.files import STDOUT
from imgindex.cli.options import INTERRUPTED
from imgindex.cli.output import OutputClosed, remark, reserve_standard_streams, short_path
from imgindex.errors import OUT_OF_MEMORY, ImgindexError, is_out_of_memory

HELP = """Turn folders of images into an index that you can search and cluster.

\b
To begin:
  imgindex add photos
  imgindex cluster -k 5
  imgindex similar photos/cat.jpg
"""
EPILOG = """Exit codes: 0 done, 1 error, 2 wrong usage, 3 some images failed, 4 a leak was found (`leak --fail-within`),
130 interrupted."""

app = typer.Typer(
    name="imgindex",
    cls=help.Group,
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: dict[str, Callable[..., int]] = {
    "add": add.command,
    "status": status.command,
    "list": list_.command,
    "remove": remove.command,
    "failures": failures.command,
    "similar": similar.command,
    "lookup": lookup.command,
    "label": label.command,
    "duplicates": duplicates.command,
    "outliers": outliers.command,
    "leak": leak.command,
    "tag": tag.command,
    "export": export.command,
    "verify": verify.command,
    "repair": repair.command,
    "compact": compact.command,
    "bench": bench.command,
    "serve": serve.command,
}
for _name, _function in COMMANDS.items():
    help.add_command(app, _name, _function)
help.add_group(app, "cluster", cluster.command, {"diff": cluster.diff, "evaluate": cluster.evaluate})
help.add_group(
    app,
    "clusterings",
    clusterings.command,
    {
        "show": clusterings.show,
        "assign": clusterings.assign,
        "merge": clustering_edits.merge,
        "split": clustering_edits.split,
        "move": clustering_edits.move,
        "undo": clustering_edits.undo,
        "delete": clusterings.delete,
    },
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"imgindex {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
) -> None:
    del version
    logging.getLogger("imgindex").setLevel(logging.DEBUG if debug else logging.INFO)


def _with_index_last(arguments: list[str]) -> list[str]:
    """Return arguments with `--index DIR` behind the command, whose option it is, where it stands before the command.

    >>> _with_index_last(["--index", "photos.imgindex", "add", "photos"])
    ['add', 'photos', '--index', 'photos.imgindex']
    """
    for number, word in enumerate(arguments):
        size = 1 if word.startswith("--index=") else 2
        if size == 1 or word == "--index":
            moved, rest = arguments[number : number + size], arguments[number + size :]
            end = rest.index("--") if "--" in rest else len(rest)
            return [*arguments[:number], *rest[:end], *moved, *rest[end:]] if rest else arguments
        if not word.startswith("-"):
            break
    return arguments


def main() -> NoReturn:
    """Run the command line and exit.

    Exit codes: 0 done, 1 error, 2 wrong usage, 3 some images failed, 4 `leak --fail-within` found a leak, 130
    interrupted.
    """
    reserve_standard_streams()
    # --debug is accepted anywhere: after an error it is easiest to add at the end of the line.
    arguments = sys.argv[1:]
    words = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in words
    if debug:
        arguments = ["--debug", *(word for word in words if word != "--debug"), *arguments[len(words) :]]
    else:
        warnings.simplefilter("ignore")
    arguments = _with_index_last(arguments)
    logging.basicConfig(format="imgindex: %(message)s", level=logging.WARNING, handlers=[_RemarkHandler()])
    interruptible = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    interrupts: list[int] = []

    def interrupt(number: int, frame: object) -> NoReturn:
        interrupts.append(number)
        raise KeyboardInterrupt

    try:
        if interruptible:
            signal.signal(signal.SIGINT, interrupt)
        code = app(args=arguments, prog_name="imgindex", standalone_mode=False, terminal_width=help.width())
        _flush_stdout()
        ignore_sigint()
        # The command line's parser turns some interrupts into this exit code and prints nothing.
        if code == INTERRUPTED and interrupts:
            _print_error("interrupted")
    except BaseException as error:  # noqa: BLE001  no error may pass this place
        ignore_sigint()
        if debug and not isinstance(error, SystemExit):
            with contextlib.suppress(OSError):
                traceback.print_exc()
        if interrupts and isinstance(error, Exception) and not isinstance(error, ImgindexError):
            # An interrupt inside a library may surface as another error, such as that of a lock released twice.
            error = KeyboardInterrupt()
        # Its frames may hold most of the memory.
        error.__traceback__ = None
        try:
            code = _report(error)
        except MemoryError:
            os.write(2 if sys.stderr is None else sys.stderr.fileno(), b"imgindex: error: out of memory\n")
            code = 1
    _close_stdout()
    # The interpreter's last search for cycles, among all objects of torch, would take a quarter of a second.
    gc.freeze()
    sys.exit(code if isinstance(code, int) else 0)


class _RemarkHandler(logging.Handler):
    """Prints what the library logs as remarks."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        remark(self.format(record))


def _report(error: BaseException) -> int:
    """Print one line on what went wrong and on the way out; return the exit code."""
    match error:
        case OutputClosed() | BrokenPipeError() if getattr(error, "filename", STDOUT[0]) in STDOUT:
            return 0  # the reader of stdout has read all that it wanted
        case SystemExit():
            return error.code if isinstance(error.code, int) else 1
        case KeyboardInterrupt() | typer.Abort():
            _print_error("interrupted")
            return INTERRUPTED
        case _ if is_out_of_memory(error):
            _print_error(OUT_OF_MEMORY)
        case ImgindexError():
            _print_error(f"{error}" + (f"; {error.hint}" if error.hint else ""))
            return error.exit_code
        case FileNotFoundError() if not cwd_exists():
            _print_error("the current folder does not exist any more; change to another one")
        case OSError():
            where = "" if error.filename is None else f": {_named(error.filename)}"
            _print_error(f"{error.strerror or error}{where}")
        case sqlite3.Error() if _is_disk_full(error):
            _print_error(f"{os.strerror(errno.ENOSPC)}; free some, then run the same command again: nothing is lost")
        case sqlite3.Error():
            hint = "check that the disk is sound and not full, then run `imgindex verify`"
            _print_error(f"the catalogue cannot be used: {error}; {hint}")
        case _ if hasattr(error, "show"):  # the parser's own error for a wrong call
            with contextlib.suppress(OSError):
                error.show()
            return int(getattr(error, "exit_code", 2))
        case _:
            _print_error(f"unexpected {type(error).__name__}: {error}; run again with --debug to see where")
    return 1


def _named(filename: object) -> str:
    """Return the name of a file in a system's error, relative to the current folder if it lies below that."""
    if isinstance(filename, str) and os.path.isabs(filename):
        with contextlib.suppress(OSError):  # the current folder may be gone
            return short_path(filename)
    return str(filename)


def _is_disk_full(error: sqlite3.Error) -> bool:
    """Whether SQLite found no space for its files, or for the memory that its processes share through a file."""
    # Python 3.10 does not have sqlite_errorname.
    return "disk is full" in str(error) or getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_SHMSIZE"


def _print_error(text: str) -> None:
    remark(f"imgindex: error: {' '.join(text.splitlines())}")


def ignore_sigint() -> None:
    """Ignore Ctrl-C: the work is done, and an interrupt could only print a traceback while the process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def cwd_exists() -> bool:
    """Whether the current folder still exists."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _flush_stdout() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _close_stdout() -> None:
    """Flush stdout, or replace it by /dev/null: the interpreter's own flush at exit would report a closed pipe."""
    try:
        _flush_stdout()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
