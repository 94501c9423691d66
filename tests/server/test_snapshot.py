"""The snapshot: several threads read the index, and its entity tag changes with each commit of any process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from imgindex import ImageIndex
from imgindex.errors import IndexClosed, IndexNotFound
from imgindex.server.snapshot import Snapshot


def test_a_slow_request_holds_up_no_other_one(home: Path) -> None:
    snapshot = Snapshot(str(home / ".imgindex"))
    begun, others = threading.Event(), threading.Event()

    def wait(index: ImageIndex) -> bool:
        begun.set()
        return others.wait(20)

    async def both() -> list[bool]:
        slow = [asyncio.ensure_future(snapshot.call(wait, is_slow=True)) for _ in range(3)]
        assert await asyncio.get_running_loop().run_in_executor(None, begun.wait, 20)
        assert await asyncio.gather(*(snapshot.call(len) for _ in range(20))) == [13] * 20
        others.set()
        return await asyncio.gather(*slow)

    assert asyncio.run(both()) == [True] * 3
    snapshot.close()


def test_changes_come_one_after_the_other_and_readers_see_one_commit(home: Path) -> None:
    snapshot = Snapshot(str(home / ".imgindex"))
    now: list[int] = []

    def change(number: int) -> Callable[[ImageIndex], None]:
        def tag(index: ImageIndex) -> None:
            now.append(number)
            index.change_tags([1 + number % 13], add=f"tag-{number}")
            assert now[-1] == number

        return tag

    def read(index: ImageIndex) -> tuple[int, int]:
        return len(index.tags()), len(index.tags())

    async def all_of_them() -> list[tuple[int, int]]:
        changes = [snapshot.change(change(number)) for number in range(20)]
        reads = [snapshot.call_with_tag(read) for _ in range(40)]
        return [found for found, _ in (await asyncio.gather(*changes, *reads))[20:]]

    found = asyncio.run(all_of_them())
    assert all(first == second for first, second in found)
    assert len(now) == 20
    snapshot.close()


def test_the_tag_is_another_one_after_each_commit_and_in_each_run(home: Path) -> None:
    path = str(home / ".imgindex")
    snapshot, other = Snapshot(path), Snapshot(path)
    first, again = (asyncio.run(snapshot.call(snapshot.tag)) for _ in range(2))
    assert first == again
    with ImageIndex.open(path) as index:
        index.tag("cat", home / "photos")
    found, second = asyncio.run(snapshot.call_with_tag(lambda index: index.tags()))
    assert (found, second != first) == ({"cat": 13}, True)
    asyncio.run(snapshot.call(lambda index: index.change_tags([1], add="dog")))
    assert asyncio.run(snapshot.call(snapshot.tag)) not in (first, second)
    assert asyncio.run(other.call(other.tag)) not in (first, second)
    snapshot.close()
    other.close()


def test_an_index_that_does_not_exist_is_an_error_and_a_closed_one_too(tmp_path: Path, home: Path) -> None:
    with pytest.raises(IndexNotFound):
        Snapshot(str(tmp_path / "none"))
    snapshot = Snapshot(str(home / ".imgindex"))
    snapshot.close()
    with pytest.raises(IndexClosed):
        asyncio.run(snapshot.call(len))
