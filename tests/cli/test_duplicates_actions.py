"""`imgindex duplicates --move-to`, `--undo`, `--trash` and `--prefer`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from collections_of import copies_of_one
from forking import Run
from pictures import contents

from imgindex import ImageIndex

EXACT = ("duplicates", "--exact")


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[ImageIndex]:
    """Two files with the same bytes, of which b/copy.png is older, and other pictures; red.png has a sidecar."""
    with copies_of_one(tmp_path) as index:
        (tmp_path / "p/a/red.xmp").write_text("edits")
        yield index


def test_files_are_moved_and_moved_back(gallery: ImageIndex, run: Run, tmp_path: Path) -> None:
    before = contents(tmp_path / "p")
    dry = run(*EXACT, "--move-to", "spare", "--dry-run", "--index", gallery.path)
    assert dry.returncode == 0
    assert "would move: p/a/red.png → spare/p/a/red.png" in dry.stderr
    assert "would be moved: 1 file and 1 sidecar" in dry.stderr
    assert contents(tmp_path / "p") == before
    assert not (tmp_path / "spare").exists()
    done = run(*EXACT, "--move-to", "spare", "--json", "--index", gallery.path)
    assert done.returncode == 0
    assert "moved: 1 file and 1 sidecar; to undo: imgindex duplicates --undo spare" in done.stderr
    found = json.loads(done.stdout)
    assert [one["path"] for one in found["disposal"]["files"]] == ["p/a/red.png", "p/a/red.xmp"]
    assert found["groups"][0]["keep"] == "p/b/copy.png"
    assert (tmp_path / "spare/p/a/red.xmp").read_text() == "edits"
    back = run("duplicates", "--undo", "spare", "--json", "--index", gallery.path)
    assert back.returncode == 0
    assert [one["path"] for one in json.loads(back.stdout)["files"]] == ["p/a/red.xmp", "p/a/red.png"]
    assert "moved back: 1 file and 1 sidecar" in back.stderr
    assert contents(tmp_path / "p") == before
    assert "moved no files" in run("duplicates", "--undo", "spare", "--index", gallery.path).stderr


def test_undo_needs_no_index(gallery: ImageIndex, run: Run, tmp_path: Path) -> None:
    before = contents(tmp_path / "p")
    run(*EXACT, "--move-to", "spare", "--index", gallery.path)
    assert run("duplicates", "--undo", "spare").returncode == 0
    assert contents(tmp_path / "p") == before


def test_what_could_not_be_moved_is_named_and_the_exit_code_is_3(gallery: ImageIndex, run: Run, tmp_path: Path) -> None:
    run(*EXACT, "--move-to", "spare", "--index", gallery.path)
    (tmp_path / "p/a/red.png").write_text("mine")
    back = run("duplicates", "--undo", "spare", "--index", gallery.path)
    assert back.returncode == 3
    assert "p/a/red.png: there is another file now" in back.stderr
    assert "moved back: 0 files and 1 sidecar; 1 could not be" in back.stderr
    assert (tmp_path / "p/a/red.png").read_text() == "mine"


def test_paths_are_those_that_were_moved(gallery: ImageIndex, run: Run) -> None:
    done = run(*EXACT, "--move-to", "spare", "--format", "paths", "--index", gallery.path)
    assert done.stdout == "p/a/red.png\np/a/red.xmp\n"


def test_the_trash_of_the_system_is_used(gallery: ImageIndex, run: Run, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    home = {"XDG_DATA_HOME": str(tmp_path / "home"), "HOME": str(tmp_path / "home")}
    dry = run(*EXACT, "--trash", "--dry-run", "--index", gallery.path, env=home)
    assert "would move to the trash: p/a/red.png" in dry.stderr
    done = run(*EXACT, "--trash", "--index", gallery.path, env=home)
    assert done.returncode == 0, done.stderr
    assert "moved to the trash: 1 file and 1 sidecar" in done.stderr
    assert not (tmp_path / "p/a/red.png").exists()
    assert (tmp_path / "p/b/copy.png").exists()
    trashed = [path for path in tmp_path.rglob("red.png*") if "rash" in str(path)]
    assert trashed, sorted(tmp_path.rglob("*"))


def test_a_preferred_file_is_kept(gallery: ImageIndex, run: Run) -> None:
    found = json.loads(run(*EXACT, "--prefer", "p/a/*", "--json", "--index", gallery.path).stdout)
    assert (found["groups"][0]["keep"], found["groups"][0]["why"]) == ("p/a/red.png", "preferred by a glob")


def test_a_replaced_file_is_printed_with_the_reason_and_is_not_disposable(
    gallery: ImageIndex, run: Run, tmp_path: Path
) -> None:
    info = os.stat(tmp_path / "p/a/red.png")
    other = (tmp_path / "p/larger.png").read_bytes()[: info.st_size].ljust(info.st_size, b"\0")
    (tmp_path / "p/a/red.png").write_bytes(other)
    os.utime(tmp_path / "p/a/red.png", ns=(info.st_atime_ns, info.st_mtime_ns))
    assert run(*EXACT, "--format", "paths", "--index", gallery.path).stdout == ""
    assert "changed since it was added: run `imgindex add`" in run(*EXACT, "--index", gallery.path).stdout
    run(*EXACT, "--move-to", "spare", "--index", gallery.path)
    assert (tmp_path / "p/a/red.png").read_bytes() == other


@pytest.mark.parametrize(
    "arguments",
    [
        ["--move-to", "a", "--trash"],
        ["--move-to", "a", "--undo", "b"],
        ["--undo", "b", "--trash"],
        ["--undo", "b", "--link-to", "c"],
        ["--move-to", ""],
        ["--prefer", ""],
        ["--dry-run"],
    ],
)
def test_contradictory_actions_are_usage_errors(gallery: ImageIndex, run: Run, arguments: list[str]) -> None:
    assert run("duplicates", *arguments, "--index", gallery.path).returncode == 2


def test_a_folder_with_files_of_the_user_is_refused(gallery: ImageIndex, run: Run, tmp_path: Path) -> None:
    before = contents(tmp_path / "p")
    (tmp_path / "mine").mkdir()
    shutil.copy(tmp_path / "p/larger.png", tmp_path / "mine")
    result = run(*EXACT, "--move-to", "mine", "--index", gallery.path)
    assert (result.returncode, contents(tmp_path / "p")) == (2, before)
