"""Reading the index of another user: SQLite cannot share its log in a folder that the reader may not write to."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from grid_mean import GridMean
from pictures import draw

from imgindex import ImageIndex

NOBODY = 65534
READER = """
import sys
sys.path.insert(0, sys.argv[2])
from forking import lose_privileges
from imgindex import ImageIndex

lose_privileges()
while line := sys.stdin.readline():
    with ImageIndex.open(sys.argv[1]) as index:
        print(len(index), len(index.vectors()), index.verify(full=True).ok, flush=True)
"""


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A folder with pictures and an index of another user, which every user may read."""
    if os.getuid() != 0:
        pytest.skip("only root can make files of others")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(4):
            draw(folder / "p" / f"{number}.png", number)
        with ImageIndex.create(folder / "i", encoder=GridMean()) as index:
            index.add([folder / "p"])
        for ending in ("-wal", "-shm"):
            (folder / "i" / f"catalogue.db{ending}").unlink(missing_ok=True)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield folder


@pytest.fixture
def reader(theirs: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", READER, str(theirs / "i"), str(Path(__file__).parents[1])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def asked(reader: subprocess.Popen[str]) -> str:
    assert reader.stdin is not None
    assert reader.stdout is not None
    reader.stdin.write("?\n")
    reader.stdin.flush()
    return reader.stdout.readline()


def test_an_index_in_a_folder_of_another_user_is_read_as_it_is_each_time(
    theirs: Path, reader: subprocess.Popen[str]
) -> None:
    assert asked(reader) == "4 4 True\n"
    for number in range(4, 8):
        draw(theirs / "p" / f"{number}.png", number)
    with ImageIndex.open(theirs / "i", encoder=GridMean()) as index:
        index.add([theirs / "p"])
    assert asked(reader) == "8 8 True\n"


def test_commits_that_are_in_the_log_alone_are_read_too(theirs: Path, reader: subprocess.Popen[str]) -> None:
    draw(theirs / "p" / "new.png", 9)
    died = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from grid_mean import GridMean, replace_encoder
from imgindex import ImageIndex
from imgindex.storage.catalogue import Catalogue

def die(self, *, limit=0):
    if limit == 0:
        os._exit(9)

Catalogue.checkpoint = die
index = ImageIndex.open({str(theirs / "i")!r}, encoder=GridMean())
index.add([{str(theirs / "p")!r}])
"""
    assert subprocess.run([sys.executable, "-c", died], check=False).returncode == 9
    assert (theirs / "i/catalogue.db-wal").stat().st_size > 0
    (theirs / "i/catalogue.db-shm").unlink()
    assert asked(reader) == "5 5 True\n"
    assert not list(Path(tempfile.gettempdir()).glob("imgindex-*/catalogue.db"))
