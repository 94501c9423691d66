"""Scales pixel values of any type to 8 bits, by the range that the file declares or that the values fill."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# The greatest value of pictures of 8, 10, 12, 14, 16 and 32 bits.
_FULL_INTEGERS = (255, 1023, 4095, 16383, 65535, 2**32 - 1)
# If the values fill less than this part of a range, the picture would be nearly black: the range is not theirs.
_LEAST_FILLED = 1 / 16
# A thousandth of the pixels at each end may be hot pixels.
_RARE = 0.001
_SAMPLE = 1 << 20
_ROWS = 256
# Fewer different values are those of a mask, in which no value stands for "nothing measured".
_FEW_VALUES = 16

Range = tuple[float, float]
_Values = npt.NDArray[Any]


def to_bytes(values: _Values, *, declared: Range | None = None, nodata: float | None = None) -> npt.NDArray[np.uint8]:
    """Return values scaled to 0…255, all channels by the same range; what is not a number becomes 0.

    declared: the least and the greatest value by the file. nodata: the value that stands for "nothing measured".

    Without a declared range it is that of 8, 10, 12, 14, 16 or 32 bits, or of 0 to 1, if the values fill it. Otherwise
    it is stretched from the least to the greatest value, without rare values far off, and without a value far off that
    many pixels have: it stands for "nothing measured" and becomes 0. High bytes are kept as they are: 12 bits lose 4.
    """
    limits, voids = _limits(values, declared, nodata)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 2 and values.size > 1 << 16:
        kind = values.dtype.newbyteorder("=")
        every = np.arange(1 << 16, dtype=np.uint16).view(kind)
        return _scale(every, limits, voids)[values.astype(kind, copy=False).view(np.uint16)]
    scaled = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _ROWS):  # bounded memory: the scaling works in float64
        scaled[top : top + _ROWS] = _scale(values[top : top + _ROWS], limits, voids)
    return scaled


def _scale(values: _Values, limits: Range, voids: list[float]) -> npt.NDArray[np.uint8]:
    low, high = limits
    numbers = values.astype(np.float64)
    with np.errstate(all="ignore"):
        if values.dtype.kind in "iu" and low == 0 and high in _FULL_INTEGERS:
            scaled = np.floor(numbers * 256 / (high + 1))
        else:
            scaled = np.rint((numbers - low) * (255 / (high - low) if high > low else 0.0))
        scaled = np.nan_to_num(np.clip(scaled, 0, 255))
    for void in voids:
        scaled[numbers == void] = 0
    return np.asarray(scaled, np.uint8)


def _limits(values: _Values, declared: Range | None, nodata: float | None) -> tuple[Range, list[float]]:
    """Return the range of values that becomes 0…255, and the values that stand for "nothing measured"."""
    voids = [float(np.array(nodata).astype(values.dtype))] if _is_value(nodata, values.dtype) else []
    sample = _sorted_sample(values, voids)
    if not sample.size:
        return (0.0, 1.0), voids
    if declared and _fills(sample, declared):
        return declared, voids
    # Undeclared: a value far off, such as 65535 above 12 bits.
    sample, more = _without_voids(sample, factor=4)
    # Signed numbers of which one stands for "nothing measured" are heights or temperatures, not the bits of a camera.
    is_measured = values.dtype.kind == "i" and bool(voids or more)
    usual = _without_rare(sample)
    for least, greatest in ((sample[0], sample[-1]), usual):
        full = _full_range(values.dtype, least, greatest)
        if full and not is_measured and (_fills(sample, full) or sample[0] == sample[-1]):
            return full, voids + more
    sample, others = _without_voids(sample, factor=1)
    return _without_rare(sample), voids + more + others


def _is_value(nodata: float | None, kind: np.dtype[Any]) -> bool:
    if nodata is None or not np.isfinite(nodata):
        return False
    return kind.kind == "f" or (float(nodata).is_integer() and np.iinfo(kind).min <= nodata <= np.iinfo(kind).max)


def _sorted_sample(values: _Values, voids: list[float]) -> _Values:
    """Return at most a million of the values, with the least and the greatest, that are finite and not void."""
    flat = values.reshape(-1)
    if values.dtype.kind == "f" or voids:
        valid = np.isfinite(flat) if values.dtype.kind == "f" else np.ones(flat.shape, bool)
        for void in voids:
            valid &= flat != void
        flat = flat[valid]
    if not flat.size:
        return np.empty(0)
    # An odd step: an even one would take the same columns of every row.
    sample = flat[:: flat.size // _SAMPLE | 1]
    return np.sort(np.concatenate([sample.astype(np.float64), [float(flat.min()), float(flat.max())]]))


def _usual(ordered: _Values) -> Range:
    """Return the least and the greatest value of all but a thousandth of the pixels at each end."""
    # In a small picture two of its pixels, and the sample has the least and the greatest value twice.
    rare = round(_RARE * len(ordered)) + 2 if len(ordered) >= 64 else 0
    return float(ordered[rare]), float(ordered[-1 - rare])


def _fills(sample: _Values, limits: Range) -> bool:
    low, high = _usual(sample)
    return high - low >= (limits[1] - limits[0]) * _LEAST_FILLED


def _full_range(kind: np.dtype[Any], low: float, high: float) -> Range | None:
    """Return the usual range that values from low to high have been made in; None if there is none."""
    if kind.kind == "f":
        # Slightly more than 1: a scaled picture overshoots.
        if low >= -0.02 and high <= 1.02:
            return 0.0, 1.0
        return (0.0, 255.0) if low >= 0 and 127 < high <= 255 else None
    if kind.kind == "i" and kind.itemsize == 1 and low < 0:
        return (-128.0, 127.0) if high - low >= 128 else None
    # Up to 127: a mask of a few classes. Between 16 and 32 bits: measured values, counts, identifiers.
    if low < 0 or high <= 127 or 65535 < high < 1 << 31:
        return None
    return 0.0, float(next((full for full in _FULL_INTEGERS if high <= full), high))


def _without_voids(sample: _Values, *, factor: float) -> tuple[_Values, list[float]]:
    """Return the sample without a least or greatest value that many pixels have and that is far from all others.

    factor: how many times as far as the others are spread.
    """
    voids: list[float] = []
    for _ in range(4):
        for void, rest in (
            (sample[0], sample[np.searchsorted(sample, sample[0], "right") :]),
            (sample[-1], sample[: np.searchsorted(sample, sample[-1], "left")]),
        ):
            frequent = len(sample) - len(rest) > max(2.0, _RARE * len(sample))
            if not frequent or len(rest) < _FEW_VALUES or len(np.unique(rest)) < _FEW_VALUES:
                continue
            least, greatest = _usual(rest)
            if min(abs(void - least), abs(void - greatest)) > factor * (greatest - least):
                voids.append(float(void))
                sample = rest
                break
        else:
            return sample, voids
    return sample, voids


def _without_rare(sample: _Values) -> Range:
    """Return the least and the greatest value, without rare ones that are far off."""
    low, high = _usual(sample)
    spread = high - low
    if not spread:
        return float(sample[0]), float(sample[-1])
    first, end = np.searchsorted(sample, low - spread, "left"), np.searchsorted(sample, high + spread, "right")
    return float(sample[first]), float(sample[end - 1])
