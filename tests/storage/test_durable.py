"""Every change to an index goes through durable.disk, and a name is durable when the call that made it returns."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import imgindex.storage
from imgindex.storage import durable

STORAGE = Path(imgindex.storage.__file__).parent
CHANGES = {
    "open", "write", "pwrite", "writev", "unlink", "remove", "rename", "renames", "replace", "link", "symlink",
    "mkdir", "makedirs", "rmdir", "removedirs", "truncate", "ftruncate", "fsync", "fdatasync", "chmod", "utime",
}  # fmt: skip
STATEMENTS = ("commit", "vacuum", "pragma wal_checkpoint")
# Opened to be read.
# The line in the lock file is for the messages of processes that wait; the lock itself does not change the disk.
READS = {("derived.py", "os.open")}
LOCK = {("lock.py", f"os.{name}") for name in ("open", "ftruncate", "pwrite")}
# A reader's own copy of a catalogue that it may not touch, in a temporary folder.
COPY = {("connection.py", "open")}
# A database of pictures that are made again when they are lost; nothing of the index depends on it.
THUMBNAILS = {("thumbnails.py", name) for name in ("connection.execute", "os.unlink", "os.makedirs")}


def changes(path: Path) -> Iterator[str]:
    """The calls in a module that may change a disk, except those of durable.disk."""
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(call, ast.Call) and may_change(call):
            yield ast.unparse(call.func)


def may_change(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    module, _, function = name.rpartition(".")
    words = [word.value for word in ast.walk(call) if isinstance(word, ast.Constant) and isinstance(word.value, str)]
    if name in ("open", "io.open"):
        return any(set(word) <= set("rwxab+t") and set(word) & set("wxa+") for word in words)
    if function.startswith("execute") and name != "durable.disk.execute":
        return any(word.lower().startswith(STATEMENTS) for word in words)
    return (module == "os" and function in CHANGES) or module == "shutil" or function in ("write_bytes", "write_text")


def test_no_file_of_the_store_changes_the_disk_except_through_durable() -> None:
    found = {
        (path.name, change) for path in STORAGE.glob("*.py") if path.name != "durable.py" for change in changes(path)
    }
    assert found == READS | LOCK | COPY | THUMBNAILS


RUN = """
import contextlib, os, sys
from pathlib import Path

from grid_mean import GRID_RECIPE, GridMean
from pictures import draw
from imgindex import ImageIndex
from imgindex.storage import durable

folder, within, changed = Path(sys.argv[1]), [], []
inside = os.fspath(folder / "it.imgindex")
EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod")

def watch(event, arguments):
    if event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR) or event in EVENTS:
        path = arguments[0]
        path = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fsdecode(path)
        if path.startswith(inside):
            changed.append((event, os.path.relpath(path, inside), bool(within)))

for name in ("open", "write", "truncate", "sync", "rename", "unlink", "make_folder", "sync_folder", "execute"):
    def step(*given, real=getattr(durable.disk, name), **named):
        within.append(1)
        try:
            return real(*given, **named)
        finally:
            within.pop()
    setattr(durable.disk, name, step)

sys.addaudithook(watch)
for number in range(6):
    draw(folder / "pictures" / f"{number}.png", number)
with ImageIndex.create(folder / "it.imgindex", encoder=GridMean()) as index:
    index.add([folder / "pictures"])
    draw(folder / "pictures" / "0.png", 70)
    index.add([folder / "pictures"])
    index.remove([folder / "pictures" / "1.png"])
    index.compact()
    segment = index._store.segments.path(max(index._store.catalogue.segments()))
with open(segment, "r+b") as file:
    file.write(b"?")
del changed[-1]
ImageIndex.repair(folder / "it.imgindex", encoder=GridMean())
assert len({path for _, path, _ in changed}) > 4, changed
print({path for _, path, through in changed if not through})
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the name of a descriptor is read from /proc")
def test_everything_that_a_run_changes_goes_through_durable(tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([os.fspath(STORAGE.parents[1]), os.fspath(Path(__file__).parents[1])])
    }
    command = [sys.executable, "-c", RUN, os.fspath(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.strip() == "{'lock'}"


def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders whose names the disk has, as they are synced."""
    folders: list[str] = []
    monkeypatch.setattr(durable.disk, "sync_folder", folders.append)
    return folders


def test_a_folder_is_durable_with_those_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = synced(monkeypatch)
    durable.make_folder(str(tmp_path / "a/b/c"))
    assert folders == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a/b")]


def test_a_file_that_a_dead_run_made_is_durable_when_it_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"what a run left that died before it synced the folder")
    folders = synced(monkeypatch)
    durable.append(str(tmp_path / "file"), 0, b"new")
    assert folders == [str(tmp_path)]
    durable.append(str(tmp_path / "file"), 3, b"more")
    assert folders == [str(tmp_path)]
