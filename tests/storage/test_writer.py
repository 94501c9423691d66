"""The commit protocol: a run may die anywhere; nothing committed is lost, and nothing uncommitted is seen."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from store_commits import (
    Died,
    commit,
    commit_with_a_failure,
    expected,
    image,
    present,
    put,
    python,
    segment,
    vector,
)

from imgindex.errors import PathNotFound
from imgindex.storage import durable
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.ledger import Ledger
from imgindex.storage.segments import HEADER_SIZE
from imgindex.storage.store import Store
from imgindex.types import Failure


def test_what_is_committed_is_seen_by_the_next_reader(store: Store) -> None:
    commit(store, 1, 2)
    commit(store, 3)
    assert present(store) == expected(1, 2, 3)


def test_what_was_put_but_not_committed_is_never_seen(store: Store) -> None:
    with store.writing() as writer:
        put(writer, store, 1)
    assert present(store) == {}


DEATHS = ["before the append", "half-way in the append", "after the append", "after one image", "before the end"]


def die(patch: pytest.MonkeyPatch, point: str) -> None:
    append, put_each = durable.append, Catalogue.put_each

    def dying_append(path: str, offset: int, data: bytes) -> None:
        if point == "half-way in the append":
            append(path, offset, data[: len(data) - 7])
        if point == "after the append":
            append(path, offset, data)
        raise Died

    def dying_put(self: Catalogue, images: Iterable[Any]) -> None:
        put_each(self, [next(iter(images))])
        raise Died

    def dying_fail(self: Ledger, failure: Failure) -> None:
        raise Died

    if "append" in point:
        patch.setattr(durable, "append", dying_append)
    elif point == "after one image":
        patch.setattr(Catalogue, "put_each", dying_put)
    else:
        patch.setattr(Ledger, "fail", dying_fail)


@pytest.mark.parametrize("point", DEATHS)
@pytest.mark.parametrize("first", [(), (1, 2)], ids=["in a new segment", "in an old segment"])
def test_a_commit_that_dies_leaves_what_was_there_before(store: Store, point: str, first: tuple[int, ...]) -> None:
    commit(store, *first)
    with pytest.MonkeyPatch.context() as patch:
        die(patch, point)
        with pytest.raises(Died):
            commit_with_a_failure(store, 3, 4)
    assert present(store) == expected(*first)
    commit(store, 6)
    assert present(store) == expected(*first, 6)
    assert segment(store).stat().st_size == HEADER_SIZE + (len(first) + 1) * 12


KILLED = """
import os, signal, sys
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.ledger import Ledger
from imgindex.storage.store import Store
from store_commits import commit_with_a_failure

def now(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

name = {"before the transaction": "set_rows", "in the transaction": "fail", "after the transaction": "checkpoint"}
setattr(Ledger if name[sys.argv[2]] == "fail" else Catalogue, name[sys.argv[2]], now)
commit_with_a_failure(Store(sys.argv[1]), 3, 4)
"""


@pytest.mark.parametrize("point", ["before the transaction", "in the transaction", "after the transaction"])
def test_a_process_killed_in_a_commit_loses_that_commit_at_most(store: Store, point: str) -> None:
    commit(store, 1, 2)
    killed = python(KILLED, store.path, point)
    assert killed.returncode == -9, killed.stderr
    assert segment(store).stat().st_size == HEADER_SIZE + 4 * 12
    survivors = (1, 2, 3, 4) if point == "after the transaction" else (1, 2)
    assert present(store) == expected(*survivors)
    commit(store, 6)
    assert present(store) == expected(*survivors, 6)


def test_uncommitted_rows_are_cut_off_by_the_next_writer(store: Store) -> None:
    commit(store, 1)
    with open(segment(store), "ab") as file:
        file.write(b"torn")
    assert present(store) == expected(1)
    with store.writing():
        pass
    assert segment(store).stat().st_size == HEADER_SIZE + 12


def test_unknown_files_among_the_segments_are_removed_by_the_next_writer(store: Store) -> None:
    commit(store, 1)
    for name in ("000002.vec", "notes.txt"):
        (segment(store).parent / name).write_bytes(b"?")
    with store.writing():
        pass
    assert os.listdir(segment(store).parent) == ["000001.vec"]


def test_a_full_segment_is_sealed_and_the_next_one_begun(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.segments, "capacity", 3)
    commit(store, 1, 2)
    commit(store, 3, 4, 5, 6, 7, 8)
    sealed = segment(store).read_bytes()
    commit(store, 9)
    assert store.catalogue.segments() == {1: 3, 2: 3, 3: 3}
    assert segment(store).read_bytes() == sealed
    assert present(store) == expected(*range(1, 10))
    assert [block.ids.tolist() for block in store.blocks()] == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    with store.writing():
        pass
    assert present(store) == expected(*range(1, 10))


def test_a_commit_over_two_segments_that_dies_leaves_neither_half(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.segments, "capacity", 3)
    commit(store, 1, 2)
    with pytest.MonkeyPatch.context() as patch:
        die(patch, "before the end")
        with pytest.raises(Died):
            commit_with_a_failure(store, 3, 4)
    assert present(store) == expected(1, 2)
    commit(store, 6, 7)
    assert present(store) == expected(1, 2, 6, 7)


def test_the_old_row_of_a_changed_image_belongs_to_no_image(store: Store) -> None:
    commit(store, 1, 2)
    with store.writing() as writer:
        writer.put(image(store, "1.png", 7), vector(7))
        writer.commit()
    assert [block.ids.tolist() for block in store.blocks()] == [[-1, 2, 1]]
    assert store.vectors([1])[0].tolist() == vector(7).tolist()


def test_removal_is_by_path_and_all_or_nothing(store: Store, tmp_path: Path) -> None:
    with store.writing() as writer:
        writer.put(image(store, "a/1.png", 1), vector(1))
        writer.put(image(store, "ab/2.png", 2), vector(2))
        writer.fail(Failure(str(tmp_path / "a/3.png"), "decode", "broken"))
        writer.commit()
        with pytest.raises(PathNotFound, match="nothing at"):
            writer.remove([str(tmp_path / "a"), str(tmp_path / "nowhere")])
        assert writer.catalogue.count() == {"images": 2, "missing": 0, "failures": 1}
        assert [image.id for image in writer.remove([str(tmp_path / "a")])] == [1]
        assert writer.catalogue.count() == {"images": 1, "missing": 0, "failures": 0}


def test_the_log_does_not_grow_with_the_number_of_commits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgindex.storage.writer.LOG_LIMIT", 100_000)
    sizes = []
    with store.writing() as writer:
        for number in range(60):
            put(writer, store, number)
            writer.commit()
            sizes.append(os.path.getsize(store.catalogue.path + "-wal"))
    assert max(sizes) < 200_000
    assert present(store) == expected(*range(60))
