"""Thumbnails: small, upright, in the order of the paths, and a reason for each that cannot be made."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from pictures import draw
from PIL import Image

from imgindex import ImageIndex
from imgindex.decoding.thumbnails import Thumbnail, thumbnail_pixels, thumbnails
from imgindex.errors import UsageError
from imgindex.storage.thumbnails import StoredThumbnail, ThumbnailStore


def opened(thumbnail: Thumbnail) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(thumbnail.data)).convert("RGB")).astype(int)


def test_thumbnails_come_in_order_with_the_longer_side_as_asked(tmp_path: Path) -> None:
    sizes = [(300, 100), (40, 200), (64, 64), (8, 8)] * 8
    paths = [str(draw(tmp_path / f"{number}.png", number, size)) for number, size in enumerate(sizes)]
    events = []
    made = list(thumbnails(paths, side=96, on_progress=events.append))
    assert [one.path for one in made] == paths
    for one, (width, height), number in zip(made, sizes, range(len(sizes)), strict=True):
        assert max(one.width, one.height) == 96
        assert one.width / one.height == pytest.approx(width / height, rel=0.03)
        pixels = opened(one)
        assert pixels.shape == (one.height, one.width, 3)
        colour = (number * 37 % 256, number * 101 % 256, number * 211 % 256)
        np.testing.assert_allclose(pixels.mean(axis=(0, 1)), colour, atol=6)
    assert [(event.done, event.total) for event in events] == [(n, 32) for n in range(1, 33)]


@pytest.mark.parametrize(("format", "magic"), [("webp", b"RIFF"), ("jpeg", b"\xff\xd8")])
def test_a_thumbnail_is_a_file_of_the_format_asked_for(tmp_path: Path, format: str, magic: bytes) -> None:
    (one,) = thumbnails([str(draw(tmp_path / "a.png", 3))], side=32, format=format)
    assert one.data.startswith(magic)


def test_pictures_are_turned_upright_and_transparency_lies_on_white(tmp_path: Path) -> None:
    halves = Image.new("RGB", (80, 40), (255, 0, 0))
    halves.paste((0, 0, 255), (40, 0, 80, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    halves.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    turned, clear = thumbnail_pixels([str(tmp_path / "turned.jpg"), str(tmp_path / "clear.png")], side=64)
    assert turned.pixels is not None
    assert turned.pixels.shape == (64, 32, 3)
    assert turned.pixels[:20, :, 0].min() > 200
    assert turned.pixels[-20:, :, 2].min() > 200
    assert clear.pixels is not None
    assert clear.pixels.min() == 255


def test_an_image_without_a_thumbnail_has_a_reason(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    good = draw(tmp_path / "good.png", 1)
    good_bytes = good.read_bytes()
    (tmp_path / "half.png").write_bytes(good_bytes[: len(good_bytes) // 2])
    names = ["gone.png", "text.jpg", "empty.png", "pipe.png", "half.png", "good.png", "nul\0.png"]
    made = {Path(one.path).name: one for one in thumbnails([str(tmp_path / name) for name in names])}
    assert list(made) == names
    assert made["good.png"].data
    assert made["good.png"].reason == ""
    for name in set(names) - {"good.png"}:
        assert made[name].data == b""
        assert made[name].reason
    assert "No such file" in made["gone.png"].reason


def test_impossible_sides_and_formats_are_refused_before_any_work(tmp_path: Path) -> None:
    for side in (0, -1, 15, 2049):
        with pytest.raises(UsageError, match="pixels"):
            thumbnails([], side=side)
    with pytest.raises(UsageError, match="bmp"):
        thumbnails([], format="bmp")


def test_an_index_gives_thumbnails_of_all_its_images_or_of_some(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    assert [one.path for one in index.thumbnails(side=16)] == index.paths()
    wanted = index.ids()[[5, 2]].tolist()
    assert [one.path for one in index.thumbnails(wanted, side=16)] == [index.paths()[5], index.paths()[2]]


def test_an_abandoned_iterator_leaves_no_process_behind(tmp_path: Path) -> None:
    if not Path("/proc/self/task").exists():
        pytest.skip("this system does not list the children of a process")
    paths = [str(draw(tmp_path / f"{number}.png", number)) for number in range(12)]
    before = children()
    drawn = thumbnails(paths, side=16)
    next(drawn)
    assert children() > before
    drawn.close()  # type: ignore[attr-defined]
    assert children() <= before


def children() -> set[str]:
    """The ids of the running processes that any thread of this process has started."""
    found = (path.read_text() for path in Path("/proc/self/task").glob("*/children"))
    return {pid for text in found for pid in text.split()}


@pytest.mark.parametrize("side", [96, 192])
def test_a_thumbnail_that_the_index_keeps_is_used_without_the_file(index: ImageIndex, folder: Path, side: int) -> None:
    index.add(folder)
    made = list(index.thumbnails(side=side))
    for path in index.paths():
        Path(path).unlink()
    again = list(index.thumbnails(side=side))
    assert [one.reason for one in again] == [""] * 12
    np.testing.assert_allclose(opened(again[3]), opened(made[3]), atol=6)
    assert [bool(one.reason) for one in index.thumbnails(side=193)] == [True] * 12


def test_a_kept_thumbnail_that_is_not_a_picture_is_made_again_from_the_file(index: ImageIndex, folder: Path) -> None:
    index.add(folder)
    image = next(iter(index.images()))
    store = ThumbnailStore(index.path)
    store.put([StoredThumbnail(bytes.fromhex(image.sha256), b"<svg/>", 192, 192)])
    store.close()
    assert next(index.thumbnails(side=96)).data.startswith(b"RIFF")


def test_the_thumbnail_of_a_changed_file_is_kept_under_its_own_bytes(index: ImageIndex, tmp_path: Path) -> None:
    draw(tmp_path / "a.png", (250, 0, 0))
    index.add(tmp_path / "a.png")
    draw(tmp_path / "a.png", (0, 0, 250))
    list(index.thumbnails(side=192))
    draw(tmp_path / "a.png", (250, 0, 0))
    assert opened(next(index.thumbnails(side=192))).mean(axis=(0, 1))[0] > 200
