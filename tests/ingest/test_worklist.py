"""The list of files to open: in order, with any name, in memory that does not grow with it."""

from __future__ import annotations

import os
from contextlib import closing

from imgindex.ingest.worklist import WorkList
from imgindex.types import FoundFile


def test_files_come_back_in_the_order_of_insertion_as_often_as_asked() -> None:
    files = [FoundFile(f"/p/{number * 7 % 10}.png", number, 10**18 + number) for number in range(10)]
    with closing(WorkList()) as work_list:
        work_list.extend(files[:4])
        work_list.extend(files[4:])
        assert len(work_list) == 10
        assert list(work_list) == list(work_list) == files


def test_names_that_are_not_utf_8_come_back_byte_for_byte() -> None:
    file = FoundFile(os.fsdecode(b"/p/\xff\n.png"), 1, -1, version="crc32:0")
    with closing(WorkList()) as work_list:
        work_list.extend([file])
        assert list(work_list) == [file]


def test_an_empty_list_has_no_files() -> None:
    with closing(WorkList()) as work_list:
        work_list.extend([])
        assert (len(work_list), list(work_list)) == (0, [])
