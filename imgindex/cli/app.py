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
from typing import Annotated, NoReturn

import typer

from imgindex._version import VERSION
from imgindex.cli import (
    add,
    bench,
    check,
    cluster,
    cluster_diff,
    cluster_evaluate,
    clusterings,
    compact,
    duplicates,
    export,
    failures,
    label,
    leak,
    list_,
    outliers,
    remove,
    repair,
    similar,
    status,
    tag,
    verify,
)
from imgindex.cli.options import INTERRUPTED
from imgindex.cli.output import OutputClosed, hold_standard_streams, remark
from imgindex.errors import ImgindexError

app = typer.Typer(
    name="imgindex",
    help="Turn folders of images into an index that can be searched and clustered.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
clustering = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
clustering.callback()(cluster.command)
clustering.command("diff")(cluster_diff.command)
clustering.command("evaluate")(cluster_evaluate.command)
app.add_typer(clustering, name="cluster")
for module, name in (
    (add, "add"),
    (similar, "similar"),
    (clusterings, "clusterings"),
    (label, "label"),
    (duplicates, "duplicates"),
    (outliers, "outliers"),
    (check, "check"),
    (leak, "leak"),
    (status, "status"),
    (list_, "list"),
    (failures, "failures"),
    (remove, "remove"),
    (tag, "tag"),
    (export, "export"),
    (verify, "verify"),
    (repair, "repair"),
    (compact, "compact"),
    (bench, "bench"),
):
    app.command(name)(module.command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"imgindex {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
) -> None:
    del version
    logging.getLogger("imgindex").setLevel(logging.DEBUG if debug else logging.INFO)


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 error, 2 usage, 3 some images failed, 130 interrupted."""
    hold_standard_streams()
    # Wherever it stands: whoever sees an error adds it at the end of the line.
    arguments = sys.argv[1:]
    words = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in words
    if debug:
        arguments = ["--debug", *(word for word in words if word != "--debug"), *arguments[len(words) :]]
    else:
        warnings.simplefilter("ignore")
    logging.basicConfig(format="imgindex: %(message)s", level=logging.WARNING)
    interruptible = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    interrupts: list[int] = []

    def interrupt(number: int, frame: object) -> NoReturn:
        interrupts.append(number)
        raise KeyboardInterrupt

    try:
        if interruptible:
            signal.signal(signal.SIGINT, interrupt)
        code = app(args=arguments, prog_name="imgindex", standalone_mode=False)
        _flush()
        _be_deaf()
        if code == INTERRUPTED and interrupts:  # of which the command line's parser has said nothing
            _say("interrupted")
    except BaseException as error:  # noqa: BLE001  the last door
        _be_deaf()
        if debug and not isinstance(error, SystemExit):
            with contextlib.suppress(OSError):
                traceback.print_exc()
        code = _report(error)
    # The interpreter's own flush at exit would complain of a pipe that is closed.
    _silence()
    # Its search for cycles among all that torch has made would take a quarter of a second.
    gc.freeze()
    sys.exit(code if isinstance(code, int) else 0)


def _report(error: BaseException) -> int:
    """Say in one line what went wrong and the way out; return the exit code."""
    match error:
        case OutputClosed():
            return 0  # whoever read has seen enough
        case SystemExit():
            return error.code if isinstance(error.code, int) else 1
        case KeyboardInterrupt() | typer.Abort():
            _say("interrupted")
            return INTERRUPTED
        case ImgindexError():
            _say(f"{error}" + (f"; {error.hint}" if error.hint else ""))
            return error.exit_code
        case FileNotFoundError() if not _stands_somewhere():
            _say("the current folder is no longer there; change to another one")
        case OSError():
            where = f": {error.filename}" if error.filename is not None else ""
            _say(f"{error.strerror or error}{where}")
        case sqlite3.Error() if _is_full(error):
            _say(f"{os.strerror(errno.ENOSPC)}; free some, then run the same command again: nothing is lost")
        case sqlite3.Error():
            hint = "check that the disk is sound and has room, then `imgindex verify`"
            _say(f"the catalogue cannot be used: {error}; {hint}")
        case MemoryError():
            _say("out of memory; try a smaller --batch-size or fewer --workers")
        case _ if hasattr(error, "show"):  # what the command line's parser says of a wrong call
            with contextlib.suppress(OSError):
                error.show()
            return int(getattr(error, "exit_code", 2))
        case _:
            _say(f"unexpected {type(error).__name__}: {error}; run again with --debug to see where")
    return 1


def _is_full(error: sqlite3.Error) -> bool:
    """Whether SQLite found no space, for its files or for the memory that it shares through one of them."""
    # The name of an error comes with Python 3.11.
    return "disk is full" in str(error) or getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_SHMSIZE"


def _say(text: str) -> None:
    remark(f"imgindex: error: {' '.join(text.splitlines())}")


def _be_deaf() -> None:
    """What is done is done: from here on Ctrl-C could only make the end noisy."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _stands_somewhere() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _silence() -> None:
    try:
        _flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
