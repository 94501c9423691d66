"""Turned and mirrored duplicates, and images that cannot be read again for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from groups_of import only
from pictures import draw

from imgindex import ImageIndex


@pytest.mark.parametrize(
    ("options", "transformed"),
    [
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
    found = only(gallery.duplicates(distance=0.1, **options).groups)
    assert {name: turned for name, (_, turned) in found.items() if turned} == transformed
    assert set(found) == {"larger.png", "red.png", "copy.png"} | set(transformed)


def test_an_image_that_cannot_be_read_again_is_a_failure_and_the_others_are_found(
    gallery: ImageIndex, tmp_path: Path
) -> None:
    (tmp_path / "p/alone.png").unlink()
    draw(tmp_path / "p/mirrored.png", (1, 2, 3), (40, 40))
    found = gallery.duplicates(distance=0.1, rotations=True)
    assert "turned.png" in only(found.groups)
    reasons = {Path(one.path).name: one.reason for one in found.failures}
    assert reasons.keys() == {"alone.png", "mirrored.png"}
    assert "imgindex add" in reasons["mirrored.png"]
