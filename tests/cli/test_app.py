"""The errors that no command expects: one line, a way out, and an exit code."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from forking import ForkServer
from typer.testing import CliRunner

from imgindex.cli import app
from imgindex.cli.flags import in_flags
from imgindex.cli.output import OutputClosed
from imgindex.errors import OUT_OF_MEMORY, IndexLocked, UsageError


def test_a_disk_that_is_full_for_the_catalogue_is_reported_as_any_other_full_disk(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as full:
        full.execute("pragma max_page_count = 1")
        with pytest.raises(sqlite3.OperationalError) as error:
            full.execute("create table images (id)")
    assert app._report(error.value) == 1
    line = capsys.readouterr().err
    assert line.startswith("imgindex: error: No space left on device; ")
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("two\nlines", hint="a way out"), 2, "imgindex: error: two lines; a way out\n"),
        (UsageError("no hint"), 2, "imgindex: error: no hint\n"),
        (IndexLocked("locked"), 1, f"imgindex: error: locked; {IndexLocked.hint}\n"),
        (PermissionError(13, "Permission denied", "a.csv"), 1, "imgindex: error: Permission denied: a.csv\n"),
        (MemoryError(), 1, f"imgindex: error: {OUT_OF_MEMORY}\n"),
        (OSError(12, "Cannot allocate memory", "a.csv"), 1, f"imgindex: error: {OUT_OF_MEMORY}\n"),
        (
            ImportError("libtorch_cpu.so: failed to map segment from shared object"),
            1,
            f"imgindex: error: {OUT_OF_MEMORY}\n",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, f"imgindex: error: {OUT_OF_MEMORY}\n"),
        (
            RuntimeError("Exception from src/inference/src/dev/plugin.cpp:54: Resource temporarily unavailable"),
            1,
            f"imgindex: error: {OUT_OF_MEMORY}\n",
        ),
        (
            BlockingIOError(11, "Resource temporarily unavailable", "lock"),
            1,
            "imgindex: error: Resource temporarily unavailable: lock\n",
        ),
        (sqlite3.OperationalError("out of memory"), 1, f"imgindex: error: {OUT_OF_MEMORY}\n"),
        (
            ValueError("out of memory of elephants"),
            1,
            "imgindex: error: unexpected ValueError: out of memory of elephants; run again with --debug to see where\n",
        ),
        (KeyboardInterrupt(), 130, "imgindex: error: interrupted\n"),
        (OutputClosed(), 0, ""),
        (KeyError("x"), 1, "imgindex: error: unexpected KeyError: 'x'; run again with --debug to see where\n"),
    ],
    ids=str,
)
def test_an_error_is_one_line_with_its_hint_and_exit_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    assert app._report(error) == code
    assert capsys.readouterr().err == in_flags(line)


def test_an_error_that_was_raised_from_one_for_memory_is_reported_as_that(capsys: pytest.CaptureFixture[str]) -> None:
    numpy = ImportError("IMPORTANT: PLEASE READ THIS FOR ADVICE ON HOW TO SOLVE THIS ISSUE!")
    numpy.__cause__ = ImportError("libopenblas.so: cannot allocate memory in static TLS block")
    assert app._report(numpy) == 1
    assert capsys.readouterr().err == f"imgindex: error: {in_flags(OUT_OF_MEMORY)}\n"


def test_debug_is_accepted_anywhere_and_adds_a_traceback(server: ForkServer, three: Path) -> None:
    for arguments in (["--debug", "list", "--index", "x"], ["list", "--index", "x", "--debug"]):
        done = server.run(*arguments, folder=three)
        assert done.code == 1
        assert "IndexNotFound" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("imgindex: error: ")
    assert "Traceback" not in server.run("list", "--index", "x", folder=three).stderr


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(app.app, ["--version"]).output == f"imgindex {app.VERSION}\n"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["--index", "i", "add", "a"], ["add", "a", "--index", "i"]),
        (["--index=i", "add", "--", "-a"], ["add", "--index=i", "--", "-a"]),
        (["--debug", "--index", "i", "status"], ["--debug", "status", "--index", "i"]),
        (["add", "--index", "i", "a"], ["add", "--index", "i", "a"]),
        (["--index", "i"], ["--index", "i"]),
        (["status"], ["status"]),
        ([], []),
    ],
)
def test_the_index_may_stand_before_the_command(given: list[str], wanted: list[str]) -> None:
    assert app._with_index_last(given) == wanted


def test_a_command_finds_the_index_that_is_named_before_it(server: ForkServer, three: Path) -> None:
    where = str(three / ".imgindex")
    before = server.run("--index", where, "list", "--json", folder=three)
    after = server.run("list", "--json", "--index", where, folder=three)
    assert before.code == after.code == 0
    assert before.stdout == after.stdout != b""
