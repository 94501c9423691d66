"""Files are encoded without an index: each gives a vector, or one for each transform, or the reason why not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from grid_mean import GridMean

from imgindex.encoders.encode_files import encode_files
from imgindex.errors import UnreadableImage

SIDE = 4


class Decoders:
    """Makes an image of one colour from a file whose bytes are a number; any other file is unreadable."""

    def decode(self, data: bytes) -> Any:
        if not data.isdigit():
            raise UnreadableImage("this is not an image")
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        pixels[0, 0] = int(data)
        return SimpleNamespace(pixels=pixels)


class NotFinite(GridMean):
    """Gives an infinite vector for an image that has a white pixel."""

    def encode(self, batch: np.ndarray) -> np.ndarray:
        vectors = super().encode(batch)
        vectors[batch.max(axis=(1, 2, 3)) == 255] = np.inf
        return vectors


def files(*data: bytes) -> Any:
    return iter(enumerate(data))


def test_each_file_gives_the_vector_of_its_image_under_its_key() -> None:
    colours = [str(number).encode() for number in range(11)]
    found = dict(encode_files(files(*colours), decoders=Decoders(), encoder=GridMean(), workers=2))
    assert found.keys() == set(range(11))
    for number, vector in found.items():
        assert vector == pytest.approx([number / 4 / 255] * 3 + [0.0] * 9)


def test_a_file_that_cannot_be_decoded_gives_the_reason() -> None:
    found = dict(encode_files(files(b"1", b"x", b"3"), decoders=Decoders(), encoder=GridMean()))
    assert isinstance(found[1], UnreadableImage)
    assert (found[1].stage, found[1].reason) == ("decode", "this is not an image")
    assert [isinstance(found[key], np.ndarray) for key in (0, 2)] == [True, True]


def test_a_vector_that_is_not_finite_is_a_failure_to_embed() -> None:
    found = dict(encode_files(files(b"1", b"255"), decoders=Decoders(), encoder=NotFinite()))
    assert np.isfinite(found[0]).all()
    assert isinstance(found[1], UnreadableImage)
    assert found[1].stage == "embed"


def test_without_files_nothing_is_encoded() -> None:
    encoder = GridMean()
    assert list(encode_files(files(), decoders=Decoders(), encoder=encoder)) == []
    assert encoder.embedded == 0
