"""Permissions and names: files that `add` may not read, and names that are hard to print."""

from __future__ import annotations

import os
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from forking import ForkServer

from imgindex import AddReport, ImageIndex


def counts(report: AddReport) -> dict[str, int]:
    kinds = ("added", "updated", "renamed", "unchanged", "reused", "restored", "failed", "removed")
    return {kind: getattr(report, kind) for kind in kinds if getattr(report, kind)}


@pytest.fixture
def open_to_all(three: Path) -> Iterator[Path]:
    """The three pictures and their index in a folder where a user without privileges may do anything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(shutil.copytree(three, name, dirs_exist_ok=True))
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        yield folder
        (folder / "pictures/closed").chmod(0o777)


def test_files_without_permission_are_failures_that_keep_their_images_until_they_can_be_read(
    server: ForkServer, open_to_all: Path
) -> None:
    def add(*options: str) -> str:
        done = server.run("add", "pictures", "--format", "csv", *options, folder=open_to_all, unprivileged=True)
        header, values = (line.split(",") for line in done.stdout.decode().splitlines())
        counts = ", ".join(
            f"{name} {value}" for name, value in zip(header[:9], values[:9], strict=True) if value != "0"
        )
        return f"{done.code}: {counts}"

    def failures() -> list[str]:
        lines = server.run("failures", "--format", "csv", folder=open_to_all).stdout.decode().splitlines()[1:]
        return [line.rpartition(",")[0] for line in lines]

    pictures, closed = open_to_all / "pictures", open_to_all / "pictures/closed"
    closed.mkdir()
    shutil.copy(pictures / "1.png", closed / "inside.png")
    (closed / "broken.png").write_text("broken")
    for path in closed.iterdir():
        path.chmod(0o666)
    assert add() == "3: found 5, unchanged 3, reused 1, failed 1"
    shutil.copy(pictures / "2.png", pictures / "secret.png")
    (pictures / "secret.png").chmod(0)
    closed.chmod(0)
    assert add() == "3: found 5, unchanged 3, failed 2"
    known = [
        "pictures/closed,find,cannot list: Permission denied",
        "pictures/closed/broken.png,decode,not an image that Pillow can read",
        "pictures/secret.png,read,Permission denied",
    ]
    assert failures() == known
    assert b"closed/inside.png" in server.run("list", folder=open_to_all).stdout
    closed.chmod(0o777)
    (pictures / "secret.png").chmod(0o666)
    # The new permission of the file is a change of its ctime.
    assert add() == "3: found 6, unchanged 4, reused 1, failed 1"
    assert failures() == known[1:2]
    assert add("--retry-failed") == "3: found 6, unchanged 5, failed 1"


def test_a_root_without_permission_is_an_error_with_a_hint(server: ForkServer, open_to_all: Path) -> None:
    (open_to_all / "pictures/closed").mkdir()
    (open_to_all / "pictures/closed").chmod(0)
    for root in ("pictures/closed", "pictures/closed/inside.png"):
        done = server.run("add", root, folder=open_to_all, unprivileged=True)
        assert done.code == 1
        assert f"cannot read {root}: Permission denied; change its permissions" in done.stderr


# names

NAMES = [
    "a" * 251 + ".png",
    "é" * 125 + ".png",
    os.fsdecode(b"\xff" * 251 + b".png"),
    os.fsdecode(b"latin-\xe9.png"),
    unicodedata.normalize("NFC", "é.png"),
    unicodedata.normalize("NFD", "é.png"),
    "A.png",
    "a.png",
    "a.PNG",
    "new\nline.png",
    "-n.png",
    "\u202egnp.png",
]


def test_every_name_is_an_image_of_its_own_that_can_be_asked_for(server: ForkServer, three: Path) -> None:
    for name in NAMES:
        shutil.copy(three / "pictures/0.png", three / "pictures" / name)
    done = server.run("add", "pictures", folder=three)
    assert done.code == 0, done
    listed = server.run("list", "--format", "paths", "-0", folder=three).stdout.split(b"\0")
    for name in NAMES:
        assert os.fsencode(f"pictures/{name}") in listed
        asked = server.run("similar", f"pictures/{name}", "-n", "30", "--format", "paths", "-0", folder=three)
        neighbours = asked.stdout.removesuffix(b"\0").split(b"\0")
        assert os.fsencode(f"pictures/{name}") not in neighbours, "it is its own neighbour"
        assert len(neighbours) == len(NAMES) + 2
    done = server.run("remove", *(f"pictures/{name}" for name in NAMES), folder=three)
    assert done.code == 0, done
    assert server.run("list", "--format", "paths", folder=three).stdout.count(b"\n") == 3


def test_a_name_that_changes_its_case_or_its_form_keeps_its_id(index: ImageIndex, folder: Path) -> None:
    (folder / "a/3.png").rename(folder / "a/é.png")
    index.add([folder])
    before = {image.id for image in index.images()}
    (folder / "a/2.png").rename(folder / "a/2.PNG")
    (folder / "a/é.png").rename(folder / "a" / unicodedata.normalize("NFD", "é.png"))
    (folder / "b").rename(folder / "B")
    assert counts(index.add([folder])) == {"renamed": 8, "unchanged": 4}
    assert {image.id for image in index.images()} == before


@contextmanager
def nested(folder: Path, depth: int) -> Iterator[None]:
    """Stand in the deepest of folders whose path no system call takes as a whole; they are removed here."""
    before = os.open(".", os.O_RDONLY)
    os.chdir(folder)
    try:
        for _ in range(depth):
            Path("x" * 200).mkdir()
            os.chdir("x" * 200)
        yield
    finally:
        for name in os.listdir():
            Path(name).unlink()
        for _ in range(depth):
            os.chdir("..")
            Path("x" * 200).rmdir()
        os.fchdir(before)
        os.close(before)


def test_folders_deeper_than_a_path_can_be_are_failures_of_every_run_and_the_rest_is_added(
    index: ImageIndex, folder: Path, tmp_path: Path
) -> None:
    with nested(folder, 30):
        shutil.copy(folder / "a/0.png", "deep.png")
        report = index.add([folder])
        assert counts(report) == {"added": 12, "failed": 1}
        (failure,) = index.failures()
        assert (failure.stage, failure.reason) == ("find", "cannot list: File name too long")
        assert 4096 <= len(failure.path) < 4300
        assert counts(index.add([folder])) == {"unchanged": 12, "failed": 1}
        assert len(list(index.failures())) == 1
    assert counts(index.add([folder])) == {"unchanged": 12}
    assert list(index.failures()) == []


def test_the_longest_path_that_there_may_be_is_added(index: ImageIndex, folder: Path) -> None:
    depth = (4095 - len(str(folder))) // 201
    room = 4095 - len(str(folder)) - depth * 201 - 1
    if room < 5:
        depth, room = depth - 1, room + 201
    name = "d" * (room - 4) + ".png"
    with nested(folder, depth):
        shutil.copy(folder / "a/0.png", name)
        assert counts(index.add([folder])) == {"added": 12, "reused": 1}
    assert max(len(path) for path in index.paths()) == 4095
