"""The snapshot: one thread uses the index, and its entity tag changes with each commit of any process."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from imgindex import ImageIndex
from imgindex.errors import IndexClosed, IndexNotFound
from imgindex.server.snapshot import Snapshot


def test_one_thread_uses_the_index(home: Path) -> None:
    snapshot = Snapshot(str(home / ".imgindex"))

    async def threads() -> set[int]:
        return set(await asyncio.gather(*(snapshot.call(lambda index: threading.get_ident()) for _ in range(20))))

    found = asyncio.run(threads())
    assert len(found) == 1
    assert threading.get_ident() not in found
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
