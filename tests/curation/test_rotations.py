"""Turned and mirrored copies are found on request, and images that cannot be read again are named."""

from __future__ import annotations

import numpy as np
import pytest
from groups_of import only

from imgindex import ImageIndex
from imgindex.curation.rotations import ALL, inverse


@pytest.mark.parametrize(
    ("options", "transformed"),
    [
        ({}, {}),
        ({"rotations": True}, {"turned.png": "turned by 270°"}),
        ({"flips": True}, {"mirrored.png": "mirrored left to right"}),
        (
            {"rotations": True, "flips": True},
            {"turned.png": "turned by 270°", "mirrored.png": "mirrored left to right"},
        ),
    ],
)
def test_turned_and_mirrored_images_are_found_on_request_with_their_transform(
    gallery: ImageIndex, options: dict[str, bool], transformed: dict[str, str]
) -> None:
    found = only(gallery.duplicates(**options).groups)
    assert {name: turned for name, (_, turned) in found.items() if turned} == transformed
    assert set(found) == {"larger.png", "red.png", "copy.png"} | set(transformed)


@pytest.mark.parametrize("name", ALL)
def test_every_turn_has_an_inverse(name: str) -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert (ALL[inverse(name)].pixels(ALL[name].pixels(pixels)) == pixels).all()


def test_the_turns_are_clockwise() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    for quarters, name in enumerate(("turned by 90°", "turned by 180°", "turned by 270°"), 1):
        assert (ALL[name].pixels(pixels) == np.rot90(pixels, -quarters)).all()
