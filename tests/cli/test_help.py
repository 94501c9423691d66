"""The help: sections, first sentences, narrow terminals, and examples that work."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from archived import pack
from forking import Done, ForkServer
from pictures import draw

from imgindex.cli.app import app
from imgindex.cli.help import SECTIONS

ROOT = typer.main.get_command(app)
# Options that cluster shares with other commands.
SHARED = {"--index", "--wait", "--format", "--json", "--html", "--sheet", "--preview", "--preview-as", "--quiet", "-q"}
SHARED |= {"--where", "--device", "--help", "-h", "--overwrite", "--null", "-0"}
# Those of the page, which `clusterings show` writes too.
SHARED |= {"--map", "--images"}


def walk(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the words and the command of each command and subcommand."""
    if words:
        yield words, command
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from walk(subcommand, (*words, name))


COMMANDS = dict(walk(ROOT))
EXAMPLES = [
    line.strip()
    for command in COMMANDS.values()
    for line in command.epilog.splitlines()
    if "imgindex" in line and "imgindex serve" not in line  # does not end by itself: see test_serve.py
]


def shown(server: ForkServer, folder: Path, *words: str, columns: int) -> str:
    """Return the help of a command on a terminal of that width."""
    done = server.run(*words, "--help", folder=folder, environment={"COLUMNS": str(columns)})
    assert (done.code, done.stderr) == (0, "")
    return done.stdout.decode()


def test_each_command_is_in_one_section() -> None:
    names = [name for section in SECTIONS.values() for name in section]
    assert sorted(names) == sorted(ROOT.commands)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_help_begins_with_a_short_sentence_and_ends_with_two_examples(words: tuple[str, ...]) -> None:
    command = COMMANDS[words]
    first = command.help.splitlines()[0]
    assert re.fullmatch(r"[A-Z][^.]{,58}\.", first)
    assert command.get_short_help_str(60) == first.removesuffix(".") or command.get_short_help_str(60) == first
    lines = [line.strip() for line in command.epilog.strip().splitlines()]
    assert lines[:2] == ["\b", "Examples:"] or lines[:1] == ["Examples:"]
    examples = [line for line in lines if "imgindex" in line]
    assert len(examples) == 2
    assert all(f"imgindex {' '.join(words)}" in example and len(example) <= 76 for example in examples)


def test_the_list_of_commands_is_whole_at_80_columns(server: ForkServer, tmp_path: Path) -> None:
    text = shown(server, tmp_path, columns=80)
    assert "..." not in text.split("\n\n", 1)[1]
    positions = []
    for section, names in SECTIONS.items():
        positions.append(text.index(f"\n{section}:\n"))
        for name in names:
            sentence = ROOT.commands[name].help.splitlines()[0]
            assert re.search(rf"^  {name} +{re.escape(sentence)}$", text, flags=re.MULTILINE), name
    assert positions == sorted(positions)
    begin = [line.split()[1] for line in text[: positions[0]].splitlines() if line.startswith("    imgindex")]
    assert begin == ["add", "cluster", "similar"]


@pytest.mark.parametrize("columns", [40, 60])
@pytest.mark.parametrize("words", [(), ("add",), ("cluster",), ("clusterings",), ("clusterings", "show")], ids=str)
def test_the_help_fits_a_narrow_terminal(
    server: ForkServer, tmp_path: Path, words: tuple[str, ...], columns: int
) -> None:
    text = shown(server, tmp_path, *words, columns=columns).split("Examples:")[0]
    too_long = [line for line in text.splitlines() if len(line) > columns and " " in line.strip()]
    assert too_long == []


def test_the_help_does_not_import_rich() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "imgindex", "--help"]
    imports = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    assert "imgindex.cli.app" in imports
    assert not re.search(r"\| +rich", imports)


def test_cluster_has_at_most_fifteen_options_of_its_own() -> None:
    options = [set(parameter.opts) for parameter in COMMANDS["cluster",].params]
    assert len([names for names in options if not names & SHARED]) <= 15


@pytest.fixture(scope="module")
def collection(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the examples name: photos, train and test, an index with two clusterings, labels."""
    folder = tmp_path_factory.mktemp("examples")
    names = [f"photos/{year}/{year}-{number}.jpg" for year in (2019, 2020) for number in range(4)]
    names += ["photos/cat.jpg", "train/a.jpg", "train/b.jpg", "test/c.jpg"]
    for number, name in enumerate(names):
        draw(folder / name, number)
    draw(folder / "photos/large.jpg", 99, size=(1200, 40))
    draw(folder / "camera/new.jpg", 50)
    pack(folder / "test.zip", {"0.jpg": (folder / "camera/new.jpg").read_bytes()})
    (folder / "labels.csv").write_text("ImageID,class\ncat,cat\nlarge,other\n")
    for arguments in (
        ["add", "photos", "train", "test", "--recipe", "vgg16-pool5", "--size", "32"],
        ["cluster", "-k", "2"],
        ["cluster", "-k", "5"],
        ["label", "0", "cats", "--clustering", "2"],
        ["label", "2", "kittens", "--clustering", "2"],
        ["clusterings", "merge", "3", "4"],
    ):
        done = server.run(*arguments, folder=folder)
        assert done.code == 0, done
    shutil.copytree(folder / ".imgindex", folder / "photos.imgindex")
    return folder


def run_example(server: ForkServer, folder: Path, example: str) -> Done:
    """Run an example; the paths that `find` would print before a pipe are in a file."""
    *before, command = example.split(" | ")
    program, *arguments = shlex.split(command)
    assert program == "imgindex"
    if arguments[0] == "bench":  # it takes seconds: see tests/test_bench.py
        arguments.append("--help")
    if not before:
        return server.run(*arguments, folder=folder)
    (folder / "paths").write_text("\n".join(map(str, folder.glob("photos/**/*.jpg"))))
    return server.run(*arguments, folder=folder, stdin=str(folder / "paths"))


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_help_works(server: ForkServer, collection: Path, tmp_path: Path, example: str) -> None:
    shutil.copytree(collection, tmp_path, dirs_exist_ok=True)
    done = run_example(server, tmp_path, example)
    assert done.code in ((0, 4) if "--fail-within" in example else (0,)), done
