"""What the tests of the command line share: a call of each command, which commands write, a collection, ways to run."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from imgindex.cli.app import app

# All commands but bench, which makes indexes of its own and takes seconds, and serve, which does not end by itself.
COMMANDS = [
    one.name or "" for one in (*app.registered_commands, *app.registered_groups) if one.name not in ("bench", "serve")
]
# One call of each command that an index of one picture can answer; a new command needs an entry.
ARGUMENTS: dict[str, list[str]] = {
    "add": ["pictures"],
    "similar": ["pictures/0.png"],
    "cluster": ["-k", "1"],
    "clusterings": [],
    "label": ["0", "cats"],
    "status": [],
    "outliers": [],
    "duplicates": ["--similar"],
    "lookup": ["pictures"],
    "leak": ["pictures", "pictures/0.png", "--similar"],
    "list": [],
    "failures": [],
    "remove": ["pictures/0.png"],
    "tag": ["cat", "pictures/0.png"],
    "export": ["--out", "vectors.npz"],
    "verify": ["--full"],
    "repair": [],
    "compact": [],
}
WRITERS = {"add", "remove", "tag", "repair", "compact", "label"}
READERS = set(COMMANDS) - WRITERS
# Readers that also keep their answer in the index, if they can write to it.
KEEPERS = {"cluster"}
# The kinds of pictures in the collection that the fixture `here` copies, and how many there are of each.
COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}
COUNTS = {"red": 5, "green": 4, "blue": 3}


def rows(text: str) -> list[dict[str, str]]:
    """Return the rows of a CSV."""
    return list(csv.DictReader(io.StringIO(text)))


def watched(tmp_path: Path) -> dict[str, str]:
    """An environment whose interpreter prints on stderr which pictures it opens, or has opened by a decoder process.

    It also prints which heavy packages it imports.
    """
    hooks = tmp_path / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "sitecustomize.py").write_text(
        "import sys\n"
        "def hook(event, arguments):\n"
        "    if event == 'open' and str(arguments[0]).endswith(('.png', '.jpg', '.gif')):\n"
        "        sys.stderr.write(f'OPENED {ascii(arguments[0])}\\n')\n"
        "    if event == 'subprocess.Popen' and 'worker.py' in str(arguments[1]):\n"
        "        sys.stderr.write('OPENED BY A DECODER\\n')\n"
        "    if event == 'import' and arguments[0] in ('openvino', 'torch', 'torchvision', 'pandas'):\n"
        "        sys.stderr.write(f'IMPORTED {arguments[0]}\\n')\n"
        "sys.addaudithook(hook)\n"
    )
    return {"PYTHONPATH": str(hooks)}


# Forks before a command imports what it needs, and describes the commands once, which takes longer than most of them.
IN_TURN = """
import functools, os, sys
import typer.main, typer.rich_utils
from imgindex.cli import app
sys.path.append(sys.argv.pop(1))
from forking import import_what_commands_import
import_what_commands_import()
typer.main.get_command = functools.cache(typer.main.get_command)
typer.main.get_command(app.app)
scratch, *words = sys.argv[1:]
number = 0
while words:
    count = int(words[0])
    child = os.fork()
    if child == 0:
        sys.argv = ["imgindex", *words[1 : count + 1]]
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{scratch}/{number}.{name}", os.O_CREAT | os.O_WRONLY, 0o600), stream)
        app.main()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, flush=True)
    number, words = number + 1, words[count + 1 :]
"""


def run_in_turn(
    commands: Sequence[Sequence[str]], *, folder: Path, environment: Mapping[str, str]
) -> list[subprocess.CompletedProcess[bytes]]:
    """Run several commands, each in a fork of one new interpreter, which reads the environment when it starts."""
    words = [word for command in commands for word in (str(len(command)), *command)]
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [sys.executable, "-c", IN_TURN, os.path.dirname(__file__), scratch, *words],
            env={**os.environ, **environment},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )
        assert done.stderr == b""
        return [
            subprocess.CompletedProcess(
                command, int(code), *(Path(scratch, f"{number}.{name}").read_bytes() for name in ("out", "err"))
            )
            for number, (command, code) in enumerate(zip(commands, done.stdout.split(), strict=True))
        ]
