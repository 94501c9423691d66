"""A file that SQLite has open is read without taking SQLite's locks away, and without descriptors left over."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from index_processes import REPAIR, output
from pictures import draw

from imgindex import ImageIndex
from imgindex.storage import posix_locks

ADD = """
from grid_mean import GridMean, replace_encoder
from imgindex import ImageIndex
with ImageIndex.open(sys.argv[1], encoder=GridMean()) as index:
    print(index.add([sys.argv[2]]).added)
"""


def verify(index: ImageIndex) -> None:
    assert index.verify(full=True).ok


def open_another(index: ImageIndex) -> None:
    ImageIndex.open(index.path).close()


def write_nothing(index: ImageIndex) -> None:
    with index._store.writing():
        pass


@pytest.mark.parametrize("what", [verify, open_another, write_nothing])
def test_a_reader_keeps_its_log_whatever_it_does(path: Path, folder: Path, what: Callable[[ImageIndex], None]) -> None:
    """To close a file that SQLite has open takes SQLite's locks away; the next to close would take the log along."""
    with ImageIndex.open(path) as index:
        assert len(index.paths()) == 12
        what(index)
        output(REPAIR, path)
        for number in range(100, 250):
            draw(folder / f"{number}.png", number)
        assert output(ADD, path, folder) == "150"
        assert len(index.paths()) == len(list(index.images())) == 162
        assert len(index.vectors()) == 162


def test_a_process_keeps_no_more_descriptors_than_it_needs(path: Path) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("descriptors are counted in /proc")
    before = count()
    with ImageIndex.open(path) as index:
        verify(index)
        once = count()
        for _ in range(5):
            verify(index)
            open_another(index)
        assert count() == once
    assert count() == before
    assert not posix_locks._waiting
