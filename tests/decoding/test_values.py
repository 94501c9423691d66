"""Values of any type become 8 bits by the range that the file declares, or that the values fill; never by the type."""

from __future__ import annotations

import numpy as np
import pytest
from samples import Array

from imgindex.decoding.values import to_bytes

ROW, COLUMN = np.mgrid[:60, :80]
# From 0 to 1, both included, on many levels.
RAMP = ((ROW * 80 + COLUMN) % 4799) / 4798
EIGHT = np.rint(RAMP * 255)


def near(found: Array, expected: Array, tolerance: int = 1) -> bool:
    return bool(np.abs(found.astype(int) - expected).max() <= tolerance)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["u2", "u4", "i4"])
def test_integers_of_fewer_bits_than_their_type_keep_their_high_bits(kind: str, bits: int) -> None:
    values = np.floor(RAMP * (2**bits - 1)).astype(kind)
    assert np.array_equal(to_bytes(values), values >> (bits - 8))


def test_thirty_two_bits_keep_their_high_byte() -> None:
    values = np.floor(RAMP * (2**32 - 1)).astype(np.uint32)
    assert np.array_equal(to_bytes(values), values >> 24)


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i2", "i4"])
@pytest.mark.parametrize("classes", [2, 8, 16, 100])
def test_the_classes_of_a_mask_are_told_apart(kind: str, classes: int) -> None:
    values = np.floor(RAMP * (classes - 1) + 0.5).astype(kind)
    assert near(to_bytes(values), np.rint(values.astype(float) * 255 / (classes - 1)))


@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_floats_from_0_to_1_are_multiplied(kind: str) -> None:
    assert near(to_bytes(RAMP.astype(kind)), EIGHT)
    assert near(to_bytes((RAMP * 0.4 + 0.3).astype(kind)), np.rint((RAMP * 0.4 + 0.3) * 255))


def test_floats_from_0_to_255_stay() -> None:
    assert near(to_bytes(EIGHT.astype(np.float32)), EIGHT, 0)


@pytest.mark.parametrize(("low", "high"), [(-3000.0, 8848.0), (270.0, 310.0), (0.0, 0.001), (1e10, 1e12), (-1.0, 1.0)])
def test_other_ranges_are_stretched(low: float, high: float) -> None:
    assert near(to_bytes(RAMP * (high - low) + low), EIGHT)


@pytest.mark.parametrize(("kind", "low", "high"), [("i2", -9000, 16500), ("i4", -100, 100_000), ("u4", 7, 1 << 20)])
def test_integers_of_another_range_are_stretched(kind: str, low: int, high: int) -> None:
    assert near(to_bytes(np.rint(RAMP * (high - low) + low).astype(kind)), EIGHT)


def test_signed_bytes_begin_at_minus_128() -> None:
    assert np.array_equal(to_bytes((EIGHT - 128).astype(np.int8)), EIGHT)


@pytest.mark.parametrize("hot", [1e6, 1e30, -1e6, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize(("scale", "kind"), [(1, "f4"), (255, "f4"), (9000, "f8")])
def test_a_hot_pixel_changes_no_other(hot: float, scale: float, kind: str) -> None:
    values = (RAMP * scale).astype(kind)
    expected = to_bytes(values)
    values[30, 40] = hot
    found = to_bytes(values)
    found[30, 40] = expected[30, 40]
    assert near(found, expected)


@pytest.mark.parametrize("bits", [10, 12])
def test_a_hot_pixel_of_16_bits_changes_no_other(bits: int) -> None:
    values = np.floor(RAMP * (2**bits - 1)).astype(np.uint16)
    values[30, 40] = 65535
    found = to_bytes(values)
    found[30, 40] = values[30, 40] = 0
    assert np.array_equal(found, values >> (bits - 8))


@pytest.mark.parametrize("rows", [1, 5, 30])
@pytest.mark.parametrize("void", [-9999.0, -32768.0, -3.4028235e38, 1e20, np.nan])
@pytest.mark.parametrize("scale", [1, 255, 2000])
def test_values_for_nothing_measured_do_not_stretch_the_range(void: float, scale: float, rows: int) -> None:
    values = (RAMP * scale).astype(np.float32)
    rest = values[rows:].copy()
    values[:rows] = void
    found = to_bytes(values)
    assert not found[:rows].any()
    assert near(found[rows:], to_bytes(rest))


def test_values_for_nothing_measured_in_integers() -> None:
    heights = np.rint(RAMP * 1500).astype(np.int16)
    heights[:9] = -32768
    assert near(to_bytes(heights)[9:], to_bytes(heights[9:].astype(np.float64)), 2)
    counts = np.rint(RAMP * 1000 + 1000).astype(np.uint16)
    counts[:9] = 65535
    assert np.array_equal(to_bytes(counts)[9:], counts[9:] >> 4)
    assert not to_bytes(counts)[:9].any()


def test_the_declared_value_for_nothing_measured_is_left_out() -> None:
    values = (RAMP * 1000).astype(np.float32)
    values[:20] = -1
    assert not to_bytes(values, nodata=-1)[:20].any()
    assert near(to_bytes(values, nodata=-1)[20:], to_bytes(values[20:]))
    assert near(to_bytes(values, nodata=float("nan")), to_bytes(values))


def test_the_declared_range_counts() -> None:
    values = np.floor(RAMP * 1000).astype(np.uint16)
    assert near(to_bytes(values, declared=(0, 4095)), np.floor(values / 16))
    assert near(to_bytes(values.astype(np.float32), declared=(100, 600)), np.clip((values - 100.0) * 255 / 500, 0, 255))


def test_a_declared_range_that_the_values_do_not_fill_is_only_that_of_the_type() -> None:
    values = np.floor(RAMP * 1023).astype(np.uint16)
    assert np.array_equal(to_bytes(values, declared=(0, 65535)), values >> 2)


def test_a_black_frame_with_a_bright_object_is_not_taken_for_nothing_measured() -> None:
    values = np.zeros((60, 80), np.uint16)
    values[20:40, 20:60] = 30000 + ROW[20:40, 20:60] * 500
    assert np.array_equal(to_bytes(values), values >> 8)


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("value", [0, 1, 7, 100])
def test_one_value_is_one_colour(kind: str, value: int) -> None:
    assert np.ptp(to_bytes(np.full((9, 9), value, kind))) == 0


def test_channels_have_one_range() -> None:
    values = np.dstack([RAMP * 4095, RAMP * 2000, RAMP * 100]).astype(np.uint16)
    assert np.array_equal(to_bytes(values), values >> 4)


def test_large_pictures_are_sampled_but_no_extreme_is_missed() -> None:
    values = np.zeros((1500, 1500), np.uint16)
    values[::2] = 3000
    values[701, 703] = 65535  # a lone bright pixel, hot
    assert to_bytes(values)[0, 0] == 3000 >> 4
    values[:, :100] = 40000
    assert to_bytes(values)[0, 1000] == 3000 >> 8
