"""Compaction: space is freed, no answer changes, and readers go on reading."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grid_mean import GridMean
from pictures import draw

from imgindex import ImageIndex
from imgindex.errors import IndexDamaged
from imgindex.export import run as exporting_module
from imgindex.storage import durable
from imgindex.storage.segments import HEADER_SIZE

ROW = 12 * 4


@pytest.fixture
def worn(index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ImageIndex:
    """Twelve pictures in three segments of five rows; then one is missing, two are updated, one taken out."""
    monkeypatch.setattr(index._store.segments, "capacity", 5)
    index.add([folder])
    (folder / "a/0.png").unlink()
    draw(folder / "a/1.png", 61)
    draw(folder / "b/7.png", 67)
    index.add([folder])
    index.remove([folder / "b/11.png"])
    return index


def answers(index: ImageIndex) -> tuple[Any, ...]:
    """What a user sees of an index, ids and distances to the last bit."""
    return (
        index.ids().tolist(),
        list(index.images()),
        index.vectors().tobytes(),
        list(index.failures()),
        [index.similar(path, n=20) for path in index.paths()],
        index.status()["missing"],
    )


def segments(index: ImageIndex) -> dict[str, int]:
    folder = Path(index.path) / "segments"
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def test_rows_of_no_image_are_freed_and_every_answer_stays(worn: ImageIndex) -> None:
    before, sizes = answers(worn), segments(worn)
    report = worn.compact()
    assert answers(worn) == before
    assert report.rows_dropped == 3
    rows = sum((size - HEADER_SIZE) // ROW for size in segments(worn).values())
    assert rows == sum((size - HEADER_SIZE) // ROW for size in sizes.values()) - 3 == 11
    assert report.bytes_after < report.bytes_before
    assert worn.verify(full=True).ok
    with ImageIndex.open(worn.path) as again:
        assert answers(again) == before


def test_a_missing_image_keeps_its_vector_and_comes_back_without_being_embedded(
    worn: ImageIndex, folder: Path, encoder: GridMean
) -> None:
    worn.compact()
    embedded = encoder.embedded
    draw(folder / "a/0.png", 0)
    report = worn.add([folder])
    assert report.restored == 1
    # Only the one that was removed is embedded again.
    assert encoder.embedded == embedded + 1
    assert worn.ids()[0] == 1
    np.testing.assert_array_equal(worn.vectors()[0], np.zeros(12))


def test_several_small_segments_become_one(index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index._store.segments, "capacity", 5)
    index.add([folder])
    before = answers(index)
    monkeypatch.setattr(index._store.segments, "capacity", 1000)
    report = index.compact()
    assert (report.segments_before, report.segments_after, report.rows_dropped) == (3, 1, 0)
    assert list(segments(index)) == ["000004.vec"]
    assert answers(index) == before


def test_a_full_segment_without_unused_rows_stays_as_it_is(worn: ImageIndex) -> None:
    worn.compact()
    living = segments(worn)
    worn.compact()
    full = {name for name, size in living.items() if size == HEADER_SIZE + 5 * ROW}
    assert full
    assert full <= set(segments(worn))


def test_where_there_is_nothing_to_do_nothing_is_done(index: ImageIndex, folder: Path) -> None:
    assert index.compact().rows_dropped == 0
    index.add([folder])
    before = answers(index), segments(index)
    report = index.compact()
    assert (report.rows_dropped, report.segments_before, report.segments_after) == (0, 1, 1)
    assert (answers(index), segments(index)) == before


def test_the_number_of_a_segment_is_never_used_again(worn: ImageIndex, folder: Path) -> None:
    seen = set(segments(worn))
    for number in range(4):
        worn.compact()
        new = set(segments(worn)) - seen
        draw(folder / "a/1.png", 80 + number)
        worn.add([folder])
        new |= set(segments(worn)) - seen
        assert not any(int(name[:6]) <= max(int(old[:6]) for old in seen) for name in new)
        seen |= new
    draw(folder / "a/0.png", 0)
    worn.add([folder])  # a missing image would keep its vector
    worn.remove([folder])
    worn.compact()
    assert segments(worn) == {}
    draw(folder / "a/1.png", 90)
    worn.add([folder / "a/1.png"])
    assert not seen & set(segments(worn))


def test_a_damaged_row_is_refused_and_nothing_is_changed(worn: ImageIndex) -> None:
    path = Path(worn.path) / "segments/000002.vec"
    data = bytearray(path.read_bytes())
    data[HEADER_SIZE] ^= 1
    path.write_bytes(data)
    before = segments(worn)
    with pytest.raises(IndexDamaged, match="damaged in 000002") as caught:
        worn.compact()
    assert "imgindex repair" in caught.value.hint
    assert segments(worn) == before
    ImageIndex.repair(worn.path, encoder=GridMean())
    with ImageIndex.open(worn.path) as again:
        assert again.compact().rows_dropped >= 0
        assert again.verify(full=True).ok


class FullDisk(durable.Disk):
    """A disk on which there is room for so many more writes."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, path: str, descriptor: int, data: memoryview, offset: int) -> int:
        self.room -= 1
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return super().write(path, descriptor, data, offset)


@pytest.mark.parametrize("room", [0, 1, 2])
def test_on_a_full_disk_nothing_is_changed(worn: ImageIndex, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    before = answers(worn), segments(worn)
    with monkeypatch.context() as patch:
        patch.setattr(durable, "disk", FullDisk(room))
        with pytest.raises(OSError, match="No space left"):
            worn.compact()
    assert (answers(worn), segments(worn)) == before
    assert worn.verify(full=True).ok
    assert worn.compact().rows_dropped == 3


def test_a_reader_of_one_state_goes_on_while_the_index_is_compacted(worn: ImageIndex) -> None:
    with ImageIndex.open(worn.path) as reader, reader._store.reading():
        ids = reader.ids().tolist()
        before = reader.vectors().tobytes()
        worn.compact()
        assert not set(segments(worn)) & {"000001.vec", "000002.vec"}
        assert reader.ids().tolist() == ids
        assert reader._store.vectors(ids).tobytes() == before
        assert reader.similar(reader.paths()[0], n=3)


def test_an_export_that_is_half_done_is_whole_though_the_index_is_compacted(
    worn: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, vectors = worn.paths(), worn.vectors()
    monkeypatch.setattr(exporting_module, "EXPORTED_AT_ONCE", 2)
    export, blocks_seen = exporting_module.export, []

    def exporting(out: str, format: str, table: Any, **options: Any) -> None:
        def blocks() -> Iterator[Any]:
            for block in table.blocks:
                blocks_seen.append(len(block))
                if len(blocks_seen) == 2:
                    with ImageIndex.open(worn.path) as other:
                        other.compact()
                yield block

        export(out, format, type(table)(table.ids, table.paths, table.dimension, blocks()), **options)

    monkeypatch.setattr(exporting_module, "export", exporting)
    with ImageIndex.open(worn.path) as reader:
        assert reader.export(tmp_path / "out.npz") == len(paths)
    assert len(blocks_seen) > 2
    with np.load(tmp_path / "out.npz") as archive:
        assert archive["paths"].tolist() == paths
        np.testing.assert_array_equal(archive["vectors"], vectors)


def test_a_reader_opened_before_sees_the_same_after_a_compaction(worn: ImageIndex) -> None:
    with ImageIndex.open(worn.path) as reader:
        before = answers(reader)
        worn.compact()
        assert answers(reader) == before
