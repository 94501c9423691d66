"""The thumbnails that an index keeps: found by the bytes that they show, bounded, and never an error."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imgindex import ImageIndex
from imgindex.storage.thumbnails import StoredThumbnail, ThumbnailStore


def thumbnail(number: int, size: int = 100) -> StoredThumbnail:
    return StoredThumbnail(hashlib.sha256(bytes([number])).digest(), bytes([number]) * size, 192, 108)


OpenStore = Callable[..., ThumbnailStore]


@pytest.fixture
def open_store() -> Iterator[OpenStore]:
    """Open stores, by the folder of the index, and close them after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda folder, **options: stack.enter_context(contextlib.closing(ThumbnailStore(str(folder), **options)))


@pytest.fixture
def store(open_store: OpenStore, tmp_path: Path) -> ThumbnailStore:
    return open_store(tmp_path)


def test_what_was_put_is_found_by_its_sha256_alone(
    open_store: OpenStore, tmp_path: Path, store: ThumbnailStore
) -> None:
    assert store.get(thumbnail(1).sha256) is None
    assert not Path(store.path).exists()
    store.put([thumbnail(1), thumbnail(2)])
    store.close()
    again = open_store(tmp_path)
    assert again.get(thumbnail(2).sha256) == thumbnail(2)
    assert again.get(thumbnail(3).sha256) is None


def test_the_oldest_are_dropped_above_the_limit(open_store: OpenStore, tmp_path: Path) -> None:
    bounded = open_store(tmp_path, most_bytes=100_000)
    for number in range(100):
        bounded.put([thumbnail(number, 4000)])
    assert os.path.getsize(bounded.path) < 130_000
    assert bounded.get(thumbnail(0).sha256) is None
    assert bounded.get(thumbnail(99).sha256) is not None


def test_a_damaged_thumbnail_is_not_found_and_can_be_put_again(store: ThumbnailStore) -> None:
    store.put([thumbnail(1), thumbnail(2)])
    with sqlite3.connect(store.path) as connection:
        connection.execute("update thumbnails set data = ? where number = 1", (b"other",))
        connection.execute("update thumbnails set width = 'wide' where number = 2")
    connection.close()
    assert [store.get(thumbnail(number).sha256) for number in (1, 2)] == [None, None]
    store.put([thumbnail(1), thumbnail(2)])
    assert store.get(thumbnail(1).sha256) == thumbnail(1)


@pytest.mark.parametrize("damage", ["not a database", "another schema", "half of the file"])
def test_a_damaged_file_is_made_again(open_store: OpenStore, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "thumbnails" / "192.db"
    path.parent.mkdir()
    if damage == "not a database":
        path.write_bytes(b"no database at all" * 1000)
    elif damage == "another schema":
        with sqlite3.connect(path) as connection:
            connection.execute("create table thumbnails (other)")
        connection.close()
    else:
        first = open_store(tmp_path)
        first.put(thumbnail(number, 3000) for number in range(50))
        first.close()
        os.truncate(path, os.path.getsize(path) // 2 // 4096 * 4096)
    store = open_store(tmp_path)
    for number in range(50):
        store.get(thumbnail(number).sha256)
    for _ in range(2):  # the first attempt may find the damage
        store.put([thumbnail(1)])
    assert store.get(thumbnail(1).sha256) == thumbnail(1)


def test_a_link_is_not_followed(open_store: OpenStore, tmp_path: Path) -> None:
    elsewhere = open_store(tmp_path / "other")
    (tmp_path / "other").mkdir()
    elsewhere.put([thumbnail(1)])
    elsewhere.close()
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "thumbnails").symlink_to(tmp_path / "other" / "thumbnails")
    linked = open_store(tmp_path / "it")
    linked.put([thumbnail(2)])
    assert linked.get(thumbnail(1).sha256) is None
    assert open_store(tmp_path / "other").get(thumbnail(2).sha256) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_read(
    open_store: OpenStore, tmp_path: Path, store: ThumbnailStore
) -> None:
    store.put([thumbnail(1)])
    store.close()
    Path(store.path).chmod(0o400)
    Path(store.path).parent.chmod(0o500)
    reader = open_store(tmp_path)
    reader.put([thumbnail(2)])
    assert reader.get(thumbnail(1).sha256) == thumbnail(1)
    assert reader.get(thumbnail(2).sha256) is None
    Path(store.path).parent.chmod(0o700)


def test_another_process_that_writes_is_not_waited_for(
    open_store: OpenStore, store: ThumbnailStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgindex.storage.thumbnails.PATIENCE", 0.01)
    store.put([thumbnail(1)])
    store.close()
    busy = open_store(Path(store.path).parent.parent)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("begin exclusive")
    busy.put([thumbnail(2)])
    assert busy.get(thumbnail(1).sha256) is None
    other.execute("rollback")
    other.close()
    assert busy.get(thumbnail(1).sha256) == thumbnail(1)


def test_threads_share_a_store(store: ThumbnailStore) -> None:
    threads = [threading.Thread(target=store.put, args=([thumbnail(number)],)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(store.get(thumbnail(number).sha256) == thumbnail(number) for number in range(20))


def test_compact_drops_the_thumbnails_of_files_that_no_image_has(
    open_store: OpenStore, index: ImageIndex, folder: Path
) -> None:
    index.add(folder)
    list(index.thumbnails(side=192))
    kept = open_store(index.path)
    hashes = [bytes.fromhex(image.sha256) for image in index.images()]
    assert all(kept.get(sha256) for sha256 in hashes)
    index.remove(folder / "a")
    index.compact()
    assert [kept.get(sha256) is not None for sha256 in hashes] == [False] * 6 + [True] * 6
