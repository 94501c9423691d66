"""Every command behind closed, full and broken streams, on odd terminals, and interrupted at any moment."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_commands import ARGUMENTS, COMMANDS, KEEPERS, READERS, WRITERS, run_in_turn
from forking import BROKEN, ForkServer, Run
from pictures import contents, draw
from rich.cells import cell_len

from imgindex import ImageIndex

# `verify` prints nothing for a sound index; the output of compact and repair has its own tests.
SILENT = {"verify", "repair", "compact"}
PRINTING = [command for command in COMMANDS if command not in SILENT]


def is_sound(folder: Path) -> bool:
    with ImageIndex.open(folder / ".imgindex") as index:
        return index.verify(full=True).ok


@pytest.mark.parametrize("command", COMMANDS)
def test_an_answer_that_cannot_be_printed_is_one_line(server: ForkServer, three: Path, command: str) -> None:
    before = contents(three / ".imgindex")
    for streams, message in (
        ({"closed": (1,)}, "stdout is closed"),
        ({"stdout": "/dev/full"}, "No space left on device"),
    ):
        done = server.run(*refreshed(three, command), folder=three, **streams)
        if command in PRINTING:
            assert done.code == 1, done
            assert done.stderr.splitlines()[-1] == f"imgindex: error: {message}"
        assert "Traceback" not in done.stderr
        if command in READERS - KEEPERS:
            assert contents(three / ".imgindex") == before
    assert is_sound(three)


def refreshed(folder: Path, command: str) -> list[str]:
    """Return the command and its arguments, and give a writer something to write."""
    if command in WRITERS:
        number = len(list((folder / "pictures").iterdir()))
        draw(folder / "pictures" / f"{number}.png", number)
    if command == "remove":
        return ["remove", f"pictures/{number - 2}.png"]
    return [command, *ARGUMENTS[command]]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_pipe_is_not_an_error(server: ForkServer, three: Path, command: str) -> None:
    done = server.run(*refreshed(three, command), folder=three, stdout=BROKEN)
    assert done.code == 0, done
    assert "error" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("streams", [{"closed": (2,)}, {"stderr": "/dev/full"}, {"stderr": BROKEN}], ids=str)
def test_without_stderr_answers_and_exit_codes_are_the_same(
    server: ForkServer, three: Path, command: str, streams: dict[str, object]
) -> None:
    done = server.run(*refreshed(three, command), folder=three, **streams)
    assert done.code == 0, done
    assert done.stdout or command in SILENT
    for arguments, code in (([*ARGUMENTS[command], "--index", "pictures/0.png"], 1), (["--frobnicate"], 2)):
        done = server.run(command, *arguments, "--debug", folder=three, **streams)
        assert (done.code, done.stdout) == (code, b""), done
    assert is_sound(three)


def test_a_process_without_any_stream_does_its_work(three: Path) -> None:
    draw(three / "pictures/9.png", 9)
    # With importtime the interpreter itself writes on the number of stderr, as C libraries do when they warn.
    shell = f"{sys.executable} -X importtime -m imgindex add pictures --json --out report.json <&- >&- 2>&-"
    assert subprocess.run(["bash", "-c", shell], cwd=three, check=False).returncode == 0
    assert json.loads((three / "report.json").read_bytes())["added"] == 1
    assert set(json.loads((three / ".imgindex/lock").read_bytes())) == {"pid", "host"}
    assert is_sound(three)


def test_stdin_that_is_closed_or_a_terminal_names_no_paths(server: ForkServer, three: Path) -> None:
    done = server.run("add", "-", folder=three, closed=(0,))
    assert done.code == 2
    assert "stdin is closed" in done.stderr
    with terminal(80) as (name, _):
        done = server.run("add", "-", folder=three, stdin=name)
    assert done.code == 2
    assert "stdin is a terminal" in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_without_stdin_a_command_does_its_work(server: ForkServer, three: Path, command: str) -> None:
    assert server.run(*refreshed(three, command), folder=three, closed=(0,)).code == 0


# terminals

TERMINALS = {
    "20 columns": (20, {"TERM": "xterm-256color"}),
    "no columns": (0, {"TERM": "xterm-256color"}),
    "1 column": (1, {"TERM": "xterm-256color"}),
    "dumb": (80, {"TERM": "dumb"}),
    "no name": (80, {"TERM": None}),
    "no colour": (80, {"TERM": "xterm-256color", "NO_COLOR": "1"}),
}
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@contextmanager
def terminal(columns: int) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of a terminal with so many columns, and a list that gets what was written on it at the end."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24 if columns else 0, columns, 0, 0))
    seen: list[str] = []
    try:
        yield os.ttyname(slave), seen
        os.set_blocking(master, False)
        data = b""
        while block := _block(master):
            data += block
        seen.append(data.decode())
    finally:
        os.close(slave)
        os.close(master)


def _block(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", TERMINALS)
def test_a_command_fits_the_terminal_that_it_is_given(
    server: ForkServer, templates: dict[int, Path], tmp_path: Path, kind: str, command: str
) -> None:
    shutil.copytree(templates[1], tmp_path, dirs_exist_ok=True)
    columns, environment = TERMINALS[kind]
    with terminal(columns) as (name, seen):
        arguments = [command, *ARGUMENTS[command]]
        # pytest-xdist sets COLUMNS, which would count before the width of the terminal.
        own_width = environment | {"COLUMNS": None}
        done = server.run(*arguments, folder=tmp_path, stdout=name, stderr=name, environment=own_width)
    assert done.code == 0, (done, seen)
    assert "Traceback" not in seen[0]
    if kind == "dumb":
        assert "\x1b" not in seen[0]
    if kind == "no colour":
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]", seen[0])
    if kind == "20 columns" and command in ("list", "failures", "cluster"):
        table = re.split(r"\d+ images? in", ESCAPE.sub("", seen[0]))[0].splitlines()
        assert max(map(len, table), default=0) <= 20


LONG = (
    "pictures/a folder with a rather long name for photographs/of 2019, 写真フォルダ/IMG_20190801_120102_edited-final"
)


@pytest.fixture(scope="module")
def long_names(server: ForkServer, templates: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures and a copy of each under a long name, a file that is not a picture, and two clusterings."""
    folder = shutil.copytree(templates[3], tmp_path_factory.mktemp("long"), dirs_exist_ok=True)
    (folder / LONG).parent.mkdir(parents=True)
    for number in range(3):
        shutil.copy(folder / f"pictures/{number}.png", folder / f"{LONG}{number}.png")
    (folder / f"{LONG}-bad.png").write_text("no picture")
    assert server.run("add", "pictures", folder=folder).code == 3
    assert server.run("cluster", "-k", "3", folder=folder).code == 0
    return folder


TABLES = {
    "list": [],
    "failures": [],
    "similar": ["pictures/0.png", "pictures/1.png"],
    "duplicates": [],
    "outliers": [],
    "leak": ["pictures", "pictures"],
    "lookup": ["pictures"],
    "status": [],
    "cluster": ["-k", "2"],
    "cluster diff": ["1", "2"],
    "cluster evaluate": ["--by-folder"],
    "clusterings": [],
    "compact": [],
}


# Those whose answers have long names.
NAMING = ("list", "similar", "outliers", "leak", "lookup", "duplicates", "failures")


@pytest.mark.parametrize("columns", [40, 60, 80])
@pytest.mark.parametrize("command", TABLES)
def test_a_table_is_readable_on_a_narrow_terminal(
    server: ForkServer, long_names: Path, command: str, columns: int
) -> None:
    """No line is longer than the terminal, and no column of text is folded to a few letters."""
    with terminal(columns) as (name, seen):
        environment = {"TERM": "xterm-256color"}
        done = server.run(*command.split(), *TABLES[command], folder=long_names, stdout=name, environment=environment)
    assert done.code in (0, 3), done
    lines = ESCAPE.sub("", seen[0]).splitlines()
    assert max(map(cell_len, (line.rstrip() for line in lines))) <= columns
    # A name is folded to pieces of 16 columns or more, or is in records, one value a line.
    if command in NAMING:
        assert any(len(line.strip()) >= 16 and line.split()[-1] in LONG for line in lines)


@pytest.mark.parametrize("command", TABLES)
def test_a_table_in_a_pipe_has_a_line_for_each_row_and_nothing_is_cut(
    server: ForkServer, long_names: Path, command: str
) -> None:
    words = command.split()
    done = server.run(*words, *TABLES[command], folder=long_names, environment={"COLUMNS": "40"})
    text = done.stdout.decode()
    assert max(map(len, text.splitlines())) > 40 or command not in NAMING
    if command in NAMING:
        as_csv = server.run(*words, *TABLES[command], "--format", "csv", folder=long_names).stdout.decode()
        rows = list(csv.DictReader(io.StringIO(as_csv)))
        assert len(text.splitlines()) == 2 + len(rows)
        for row, line in zip(rows, text.splitlines()[2:], strict=True):
            assert all(row[name] in line for name in ("query", "path", "nearest", "a", "b", "match") if name in row)


def test_progress_is_drawn_on_a_terminal_of_any_width(server: ForkServer, three: Path) -> None:
    for number, columns in enumerate((80, 20, 1, 0), 10):
        draw(three / "pictures" / f"{number}.png", number)
        with terminal(columns) as (name, seen):
            done = server.run("add", "pictures", folder=three, stderr=name, environment={"TERM": "xterm"})
        assert done.code == 0, seen
        assert "Traceback" not in seen[0]
        assert b"added" in done.stdout


# encodings, in real processes: they are chosen when the interpreter starts

PLAIN = [
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "cp437:strict"},
]


HELP = ["", *COMMANDS, "bench", "cluster diff", "cluster evaluate", "clusterings show", "clusterings assign"]
HELP += [f"clusterings {edit}" for edit in ("merge", "split", "move", "undo")]


@pytest.mark.parametrize("environment", PLAIN, ids=str)
def test_names_and_the_help_of_every_command_come_out_in_any_encoding(three: Path, environment: dict[str, str]) -> None:
    name = os.fsencode("pictures/é–片") + b"\xff.png"
    (three / "pictures/0.png").rename(os.fsdecode(os.fsencode(three) + b"/" + name))
    added, listed, asked, absent, table, wrong, *helped = run_in_turn(
        [
            ["add", "pictures"],
            ["list", "--format", "paths"],
            ["similar", os.fsdecode(name), "--json"],
            ["similar", "pictures/é–片.png"],
            ["list"],
            [os.fsdecode(b"\xff\xe9\x97")],
            *([*words.split(), "--help"] for words in HELP),
        ],
        folder=three,
        environment=environment,
    )
    assert added.returncode == 0, added.stderr
    assert name in listed.stdout.splitlines()
    assert asked.returncode == 0, asked.stderr
    assert absent.returncode == 1
    assert len(absent.stderr.splitlines()) == 1
    assert (table.returncode, table.stdout.count(b".png")) == (0, 3)
    assert b"\\udcff" in table.stdout
    assert wrong.returncode == 2
    assert b"Traceback" not in wrong.stderr
    assert len(helped) == len(HELP)
    for done in helped:
        assert (done.returncode, done.stderr) == (0, b""), done
        assert b"--help" in done.stdout


# Ctrl-C

MOMENTS = 6


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_at_any_moment_is_one_line_and_harms_nothing(
    server: ForkServer, templates: dict[int, Path], tmp_path: Path, command: str
) -> None:
    folder = tmp_path / "it"
    shutil.copytree(templates[3], folder)
    whole = server.run(*refreshed(folder, command), folder=folder, interrupt_at=10**9)
    assert whole.calls > 100
    codes = set()
    for moment in range(MOMENTS):
        shutil.rmtree(folder)
        shutil.copytree(templates[3], folder)
        arguments = refreshed(folder, command)
        before = contents(folder)
        done = server.run(*arguments, folder=folder, interrupt_at=whole.calls * (2 * moment + 1) // (2 * MOMENTS))
        codes.add(done.code)
        assert done.code in (0, 130), done
        # Python reports an exception itself if it cannot raise it, for example while it closes a generator.
        result = re.sub(r"Exception ignored in.*?\nKeyboardInterrupt: *\n", "", done.stderr, flags=re.DOTALL)
        assert "Traceback" not in result, result
        assert len(result.splitlines()) <= len(whole.stderr.splitlines()) + 2
        after = contents(folder)
        assert not [name for name in after if Path(name).name.startswith(".imgindex-")]
        if command in READERS - KEEPERS:
            after.pop("vectors.npz", None)
            assert after == before
        assert is_sound(folder)
    assert 130 in codes


@pytest.mark.parametrize("module", ["imgindex.cli.app", "typer", "imgindex.cli.add", "imgindex.index"])
def test_ctrl_c_while_the_command_line_is_loaded_prints_no_traceback(run: Run, three: Path, module: str) -> None:
    hooks = three / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "def hook(event, arguments):\n"
        f"    if event == 'import' and arguments[0] == {module!r}:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.addaudithook(hook)\n"
    )
    path = os.pathsep.join([str(hooks), os.environ.get("PYTHONPATH", "")])
    done = run("list", env={"PYTHONPATH": path})
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr in ("", "imgindex: error: interrupted\n")


def test_a_stream_that_is_closed_when_a_process_starts_is_none(three: Path) -> None:
    """The fork server's children must find the streams as the interpreter would."""
    code = "import sys; print(sys.stdin is sys.stdout is sys.stderr is None, file=open('streams', 'w'))"
    subprocess.run(["bash", "-c", f'{sys.executable} -c "{code}" <&- >&- 2>&-'], cwd=three, check=True)
    assert (three / "streams").read_text() == "True\n"


def test_ctrl_c_is_answered_in_one_line(three: Path) -> None:
    command = [sys.executable, "-m", "imgindex", "similar", "-", "--format", "jsonl"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=three, **pipes) as process:
        process.stdin.write(b"pictures/0.png\n" * 300)
        process.stdin.flush()
        assert process.stdout.read1()  # some answers: it waits for more questions now
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=60)
    assert (process.returncode, message) == (130, b"imgindex: error: interrupted\n")
