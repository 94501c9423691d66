"""Every command against every state that an index may be in: the exit code, one line, and nothing changed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cli_commands import ARGUMENTS, COMMANDS, KEEPERS, READERS, WRITERS
from forking import Done, ForkServer
from pictures import contents, draw

NEWER = "pip install --upgrade"


def garbage(index: Path) -> None:
    (index / "catalogue.db").write_bytes(b"this is no database" * 500)


def truncated(index: Path) -> None:
    os.truncate(index / "catalogue.db", (index / "catalogue.db").stat().st_size // 2)


def without_segment(index: Path) -> None:
    (index / "segments/000001.vec").unlink()


def shorter(index: Path) -> None:
    os.truncate(index / "segments/000001.vec", 4096 + 100)


def flipped(index: Path) -> None:
    data = bytearray((index / "segments/000001.vec").read_bytes())
    data[4096 + 5] ^= 1
    (index / "segments/000001.vec").write_bytes(data)


def newer(index: Path) -> None:
    with closing(sqlite3.connect(index / "catalogue.db")) as connection:
        connection.execute("pragma user_version = 99")


def a_file(index: Path) -> None:
    shutil.rmtree(index)
    index.write_text("a file")


def as_it_is(index: Path) -> None:
    pass


def sealed(index: Path) -> None:
    for path in index.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    index.chmod(0o555)


@dataclass(frozen=True)
class State:
    """What an index is like: how it is made of a sound one, and the exit code of each command (else `code`)."""

    make: Callable[[Path], object]
    code: int = 1
    codes: dict[str, int] = field(default_factory=dict)
    message: str = ""
    images: int = 1
    unprivileged: bool = False


STATES = {
    "none": State(shutil.rmtree, codes={"add": 0}, message="no "),
    "empty": State(as_it_is, 0, {"cluster": 1, "remove": 1, "label": 1, "leak": 1, "tag": 1}, images=0),
    "one image": State(as_it_is, 0),
    "garbage for a catalogue": State(garbage, message="catalogue.db"),
    "half a catalogue": State(truncated, message="catalogue.db"),
    "no segment": State(
        without_segment, codes={"status": 0, "list": 0, "failures": 0, "clusterings": 0}, message="000001.vec"
    ),
    "a short segment": State(
        shorter, codes={"status": 0, "list": 0, "failures": 0, "clusterings": 0}, message="000001.vec"
    ),
    "a flipped bit": State(
        flipped,
        0,
        dict.fromkeys(("similar", "cluster", "outliers", "duplicates", "leak", "export", "verify"), 1),
        message="verify --full",
        images=3,
    ),
    "a newer format": State(newer, message=NEWER),
    "a file": State(a_file, message=".imgindex"),
    "unreadable": State(lambda index: (index / "catalogue.db").chmod(0), unprivileged=True),
    "a closed folder": State(lambda index: index.chmod(0), unprivileged=True),
    "read-only": State(sealed, 0, dict.fromkeys(WRITERS, 1), message="Permission denied", unprivileged=True),
}
DAMAGES = (garbage, truncated, without_segment, shorter, flipped)


def ends_well(done: Done, code: int, *, verify: bool = False) -> None:
    """Assert that a command ended with this code, and printed what the contract demands."""
    assert done.code == code, done
    assert "Traceback" not in done.stderr
    assert "run again with --debug" not in done.stderr
    if code == 1 and not verify:
        assert done.stdout == b"", done
    if code == 1:
        (line,) = done.stderr.splitlines()
        assert line.startswith("imgindex: error: ") or verify, line
    if code == 0:
        assert "error" not in done.stderr


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that a user without privileges can reach, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_every_command_has_its_arguments_here() -> None:
    assert set(COMMANDS) <= set(ARGUMENTS)
    assert {"add", "similar", "cluster", "status", "list", "failures", "remove", "export", "verify"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", STATES)
def test_in_any_state_of_the_index_a_command_keeps_the_contract(
    server: ForkServer, templates: dict[int, Path], folder: Path, name: str, command: str
) -> None:
    state = STATES[name]
    shutil.copytree(templates[state.images], folder, dirs_exist_ok=True)
    folder.chmod(0o777)
    draw(folder / "pictures/0.png", 0)
    index = folder / ".imgindex"
    state.make(index)
    before = contents(index)
    code = state.codes.get(command, state.code)
    done = server.run(command, *ARGUMENTS[command], "--index", index, folder=folder, unprivileged=state.unprivileged)
    if command in ("repair", "compact") and state.make in DAMAGES:
        code = done.code  # their own tests check whether they help
        assert code in (0, 1, 3)
    ends_well(done, code, verify=command == "verify")
    if code == 1 and command not in ("verify", "repair", "compact"):
        assert state.message in done.stderr
    if code == 1 or command in READERS - KEEPERS:
        if state.unprivileged:
            index.chmod(0o755)
        assert contents(index) == before
        assert not (folder / "vectors.npz").exists() or code == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_while_another_process_writes_readers_answer_and_writers_name_the_process(
    server: ForkServer, three: Path, command: str
) -> None:
    before = contents(three / ".imgindex")
    with open(three / ".imgindex/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(json.dumps({"pid": 12345, "host": "elsewhere"}))
        lock.flush()
        done = server.run(command, *ARGUMENTS[command], folder=three)
    ends_well(done, 1 if command in WRITERS else 0)
    if command in WRITERS:
        assert "12345" in done.stderr
        assert "elsewhere" in done.stderr
    assert contents(three / ".imgindex") == before


@pytest.mark.parametrize("command", COMMANDS)
def test_an_empty_name_for_the_index_is_refused(server: ForkServer, three: Path, command: str) -> None:
    before = contents(three)
    done = server.run(command, *ARGUMENTS[command], "--index", "", folder=three)
    assert done.code == 2, done
    assert done.stderr == "imgindex: error: --index '' names no folder; is a variable empty?\n"
    assert contents(three) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_in_a_deleted_folder_a_command_ends_with_one_line(server: ForkServer, three: Path, command: str) -> None:
    (three / "gone").mkdir()
    before = contents(three / ".imgindex")
    arguments = [str(three / word) if word.startswith("pictures") else word for word in ARGUMENTS[command]]
    done = server.run(command, *arguments, folder=three / "gone", folder_goes=True)
    ends_well(done, 1)
    assert "current folder" in done.stderr
    assert contents(three / ".imgindex") == before


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("lacking", ["HOME", "TMPDIR"])
def test_neither_a_home_nor_a_folder_for_temporary_files_is_needed(
    server: ForkServer, three: Path, command: str, lacking: str
) -> None:
    environment = {"HOME": None} if lacking == "HOME" else {"TMPDIR": "/proc"}
    done = server.run(command, *ARGUMENTS[command], folder=three, environment=environment)
    ends_well(done, 0)
