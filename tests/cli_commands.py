"""What the tests of the command line share: a call of each command, which commands write, a collection, CSV rows."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from imgindex.cli.app import app

# All commands but bench, which makes indexes of its own and takes seconds: see tests/test_bench.py.
COMMANDS = [one.name or "" for one in (*app.registered_commands, *app.registered_groups) if one.name != "bench"]
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
    """An environment whose interpreter prints on stderr which pictures it opens and which heavy packages it imports."""
    hooks = tmp_path / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "sitecustomize.py").write_text(
        "import sys\n"
        "def hook(event, arguments):\n"
        "    if event == 'open' and str(arguments[0]).endswith(('.png', '.jpg', '.gif')):\n"
        "        sys.stderr.write(f'OPENED {ascii(arguments[0])}\\n')\n"
        "    if event == 'import' and arguments[0] in ('openvino', 'torch', 'torchvision', 'pandas'):\n"
        "        sys.stderr.write(f'IMPORTED {arguments[0]}\\n')\n"
        "sys.addaudithook(hook)\n"
    )
    return {"PYTHONPATH": str(hooks)}
