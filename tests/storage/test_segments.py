"""Files of vectors: what is appended comes back, and whatever contradicts the catalogue is noticed."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from imgindex.errors import FormatTooNew, IndexDamaged
from imgindex.storage.records import Location
from imgindex.storage.segments import HEADER_SIZE, Segments

DIGEST = "ab" * 32


@pytest.fixture
def segments(tmp_path: Path) -> Segments:
    return Segments(str(tmp_path), dimension=3, dtype="float32", digest=DIGEST)


def rows(n: int, *, start: int = 0) -> np.ndarray:
    return np.arange(start * 3, (start + n) * 3, dtype=np.float32).reshape(n, 3)


def locations(crcs: list[int], *, segment: int = 1, start: int = 0) -> list[Location]:
    return [Location(start + row + 1, segment, start + row, crc) for row, crc in enumerate(crcs)]


def test_what_is_appended_is_read_back(segments: Segments) -> None:
    first = locations(segments.append(1, 0, rows(2)))
    second = locations(segments.append(1, 2, rows(3, start=2)), start=2)
    np.testing.assert_array_equal(segments.read(first + second, segments.maps({1: 5})), rows(5))
    np.testing.assert_array_equal(segments.map(1, 5), rows(5))


def test_vectors_are_read_in_the_given_order_and_across_segments(segments: Segments) -> None:
    places = [
        *locations(segments.append(1, 0, rows(2))),
        *locations(segments.append(2, 0, rows(2, start=2)), segment=2),
    ]
    np.testing.assert_array_equal(segments.read(places[::-1], segments.maps({1: 2, 2: 2})), rows(4)[::-1])


def test_a_file_is_a_page_of_header_and_then_little_endian_rows(segments: Segments) -> None:
    segments.append(7, 0, rows(2))
    data = Path(segments.path(7)).read_bytes()
    assert struct.unpack_from("<8sIII8s32sI", data) == (
        b"IMGIVEC\0",
        1,
        4096,
        3,
        b"float32\0",
        bytes.fromhex(DIGEST),
        7,
    )
    assert data[4096:] == struct.pack("<6f", *range(6))


def test_float16_rows_take_half_the_space_and_come_back_as_float32(tmp_path: Path) -> None:
    segments = Segments(str(tmp_path), dimension=3, dtype="float16", digest=DIGEST)
    vectors = np.array([[0.1, -2.0, 3000.0]], dtype=np.float32)
    places = locations(segments.append(1, 0, vectors))
    assert Path(segments.path(1)).stat().st_size == HEADER_SIZE + 6
    read = segments.read(places, segments.maps({1: 1}))
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, vectors, rtol=1e-3)


def test_a_torn_tail_is_overwritten_by_the_next_append(segments: Segments) -> None:
    segments.append(1, 0, rows(1))
    segments.append(1, 1, np.full((5, 3), np.nan, dtype=np.float32))
    places = locations(segments.append(1, 1, rows(2, start=1)), start=1)
    np.testing.assert_array_equal(segments.read(places, segments.maps({1: 3})), rows(2, start=1))


def test_recovery_cuts_what_is_longer_than_the_committed_rows(segments: Segments) -> None:
    segments.append(1, 0, rows(5))
    segments.recover({1: 2})
    assert Path(segments.path(1)).stat().st_size == HEADER_SIZE + 2 * 12
    np.testing.assert_array_equal(segments.map(1, 2), rows(2))


def test_recovery_removes_files_without_a_committed_row_but_no_folders(segments: Segments, tmp_path: Path) -> None:
    segments.append(1, 0, rows(1))
    segments.append(2, 0, rows(1))
    (tmp_path / "000001.vec.tmp").write_bytes(b"?")
    (tmp_path / "folder").mkdir()
    segments.recover({1: 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000001.vec", "folder"]


def test_recovery_makes_a_folder_that_was_lost_while_it_was_empty(tmp_path: Path) -> None:
    segments = Segments(str(tmp_path / "segments"), dimension=3, dtype="float32", digest=DIGEST)
    segments.recover({})
    segments.append(1, 0, rows(1))
    np.testing.assert_array_equal(segments.map(1, 1), rows(1))


@pytest.mark.parametrize("cut", [1, 12, 4096])
def test_a_segment_shorter_than_its_committed_rows_is_damage(segments: Segments, cut: int) -> None:
    segments.append(1, 0, rows(2))
    path = Path(segments.path(1))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(IndexDamaged, match=r"000001\.vec"):
        segments.recover({1: 2})
    with pytest.raises(IndexDamaged, match=r"000001\.vec"):
        segments.map(1, 2)


def test_a_missing_segment_is_damage(segments: Segments) -> None:
    with pytest.raises(IndexDamaged, match=r"000001\.vec"):
        segments.recover({1: 2})
    with pytest.raises(IndexDamaged, match=r"000001\.vec"):
        segments.map(1, 2)


def test_damage_to_one_segment_stops_recovery_before_it_removes_anything(segments: Segments, tmp_path: Path) -> None:
    (tmp_path / "stray").write_bytes(b"?")
    with pytest.raises(IndexDamaged):
        segments.recover({1: 2})
    assert (tmp_path / "stray").exists()


@pytest.mark.parametrize("offset", [0, 8, 16, 20, 30, 60, 64, 67])
def test_a_changed_byte_in_the_header_is_damage(segments: Segments, offset: int) -> None:
    segments.append(1, 0, rows(2))
    path = Path(segments.path(1))
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.write_bytes(data)
    with pytest.raises((IndexDamaged, FormatTooNew)):
        segments.map(1, 2)
    with pytest.raises((IndexDamaged, FormatTooNew)):
        segments.recover({1: 2})


def test_a_segment_of_a_newer_version_is_refused_as_such(segments: Segments) -> None:
    segments.append(1, 0, rows(2))
    path = Path(segments.path(1))
    data = bytearray(path.read_bytes())
    data[8:12] = struct.pack("<I", 2)
    path.write_bytes(data)
    with pytest.raises(FormatTooNew):
        segments.map(1, 2)


def test_a_segment_of_another_index_is_refused_and_left_as_it_is(segments: Segments, tmp_path: Path) -> None:
    Segments(str(tmp_path), dimension=3, dtype="float32", digest="cd" * 32).append(1, 0, rows(5))
    before = Path(segments.path(1)).read_bytes()
    with pytest.raises(IndexDamaged, match="header"):
        segments.map(1, 2)
    with pytest.raises(IndexDamaged, match="header"):
        segments.recover({1: 2})
    assert Path(segments.path(1)).read_bytes() == before


def test_swapped_segments_are_refused(segments: Segments) -> None:
    segments.append(2, 0, rows(2))
    Path(segments.path(2)).rename(segments.path(1))
    with pytest.raises(IndexDamaged, match="header"):
        segments.map(1, 2)


def test_one_changed_bit_of_a_vector_is_damage_to_that_image_alone(segments: Segments) -> None:
    places = locations(segments.append(1, 0, rows(3)))
    path = Path(segments.path(1))
    data = bytearray(path.read_bytes())
    data[HEADER_SIZE + 12] ^= 1
    path.write_bytes(data)
    with pytest.raises(IndexDamaged, match="image 2 "):
        segments.read(places, segments.maps({1: 3}))
    assert list(segments.damaged(places, segments.maps({1: 3}))) == [places[1]]
    np.testing.assert_array_equal(segments.read([places[0], places[2]], segments.maps({1: 3})), rows(3)[[0, 2]])


def test_a_location_outside_the_committed_rows_is_damage(segments: Segments) -> None:
    places = locations(segments.append(1, 0, rows(3)))
    for committed in ({1: 2}, {}):
        with pytest.raises(IndexDamaged):
            segments.read(places, segments.maps(committed))
        assert places[2] in list(segments.damaged(places, segments.maps(committed)))
