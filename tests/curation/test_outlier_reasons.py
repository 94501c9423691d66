"""What is unusual about an image: facts of its file, and its colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from grid_mean import GridMean
from pictures import draw
from PIL import Image

from imgindex import ImageIndex


def test_the_reason_names_unusual_shapes_sizes_formats_and_colours(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "p").mkdir()
    for number in range(60):
        noise = rng.integers(0, 256, (100, 120, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "p" / f"{number}.png")
    tiles = rng.integers(0, 256, (2, 20, 3), dtype=np.uint8)
    Image.fromarray(tiles.repeat(20, axis=0).repeat(20, axis=1)).save(tmp_path / "p/wide.jpg")
    Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(tmp_path / "p/small.png")
    draw(tmp_path / "p/plain.png", (200, 30, 30), (120, 100))
    draw(tmp_path / "p/dark.png", (5, 5, 5), (120, 100))
    draw(tmp_path / "p/gone.png", (30, 200, 30), (120, 100))
    with ImageIndex.create(tmp_path / "it.imgindex", encoder=GridMean()) as index:
        index.add([tmp_path / "p"])
        (tmp_path / "p/gone.png").unlink()
        reasons = {Path(one.path).name: one.reason for one in index.outliers(n=100)}
    assert reasons["wide.jpg"].split("; ")[1:] == ["10.0 times as wide as high", "the only JPEG"]
    assert reasons["small.png"].split("; ")[1:] == ["only 12 × 12 pixels, 83 times fewer than usual"]
    assert reasons["plain.png"].split("; ")[1:] == ["nearly one colour"]
    assert reasons["dark.png"].split("; ")[1:] == ["nearly one colour"]
    assert reasons["gone.png"].split("; ")[1:] == ["cannot be read now: No such file or directory"]
    assert reasons["0.png"] == "about as far from its nearest image as usual"
