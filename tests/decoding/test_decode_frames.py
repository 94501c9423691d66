"""Files with several pictures: the largest page counts, and of an animation the first frame that shows something."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from samples import NOISE, SMOOTH, Array, encoded, pixels

from imgindex.decoding import decode as module
from imgindex.decoding.decode import Draft, decode

PICTURE = Image.fromarray(SMOOTH).resize((256, 192))
BLACK = Image.new("RGB", PICTURE.size)
ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")


def animation(format: str, *frames: Image.Image) -> bytes:
    options: dict[str, Any] = {"lossless": True} if format == "WEBP" else {}
    return encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=100, **options)


def distance(found: Array, expected: Image.Image) -> float:
    return float(np.abs(found.astype(int) - np.asarray(expected)).mean())


@pytest.mark.parametrize("colour", ["black", "white", (3, 200, 7)])
@pytest.mark.parametrize("before", [1, 5])
@pytest.mark.parametrize("format", ANIMATED)
def test_frames_of_one_colour_at_the_beginning_are_passed_over(format: str, before: int, colour: Any) -> None:
    # Writers merge frames that are equal.
    blanks = [Image.new("RGB", PICTURE.size, colour) for _ in range(before)]
    for number, blank in enumerate(blanks):
        blank.putpixel((0, 0), tuple(min(255, value + number) for value in blank.getpixel((0, 0))))  # type: ignore[union-attr]
    assert distance(pixels(animation(format, *blanks, PICTURE, PICTURE.rotate(5))), PICTURE) < 6


@pytest.mark.parametrize("format", ANIMATED)
def test_otherwise_the_first_frame_counts(format: str) -> None:
    assert distance(pixels(animation(format, PICTURE, BLACK, PICTURE.rotate(90))), PICTURE) < 6
    assert pixels(animation(format, BLACK, Image.new("RGB", PICTURE.size, "red"))).max() == 0


@pytest.mark.parametrize("format", ANIMATED)
def test_dropping_alpha_takes_the_first_frame_as_opencv_does(format: str) -> None:
    assert pixels(animation(format, BLACK, PICTURE), alpha="drop").max() == 0


def test_a_transparent_first_frame_is_passed_over() -> None:
    clear = Image.new("RGBA", PICTURE.size)
    assert distance(pixels(animation("PNG", clear, PICTURE.convert("RGBA"))), PICTURE) < 6
    assert distance(pixels(animation("WEBP", clear, PICTURE.convert("RGBA"))), PICTURE) < 6


@pytest.mark.parametrize("format", ["GIF", "WEBP"])
def test_a_broken_later_frame_leaves_the_first(format: str) -> None:
    data = animation(format, BLACK, PICTURE)
    broken = bytearray(data)
    broken[-len(data) // 3 :] = bytes(len(data) // 3)
    assert decode(bytes(broken)).image.size == PICTURE.size


def test_the_search_for_a_frame_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.new("RGB", (60, 40), (number, 0, 0)) for number in range(8)]
    picture = PICTURE.resize((60, 40))
    data = animation("GIF", *frames, picture)
    assert pixels(data).max() > 100
    monkeypatch.setattr(module, "MAX_FRAMES", 5)
    assert pixels(data).max() < 8
    monkeypatch.setattr(module, "MAX_FRAMES", 256)
    monkeypatch.setattr(module, "MAX_FRAME_PIXELS", 60 * 40 * 5)
    assert pixels(data).max() < 8


# Pages


def pages(*pictures: Array, **options: Any) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for number, picture in enumerate(pictures):
            writer.write(picture, photometric="rgb", metadata=None, **{k: v[number] for k, v in options.items()})
    return file.getvalue()


SMALL = np.asarray(Image.fromarray(255 - SMOOTH).resize((16, 12)))


@pytest.mark.parametrize("types", [(1, 0), (0, 0), (None, None)])
def test_the_largest_page_of_a_tiff_counts(types: tuple[int | None, int | None]) -> None:
    picture = decode(pages(SMALL, SMOOTH, subfiletype=types))
    assert np.array_equal(np.asarray(picture.image), SMOOTH)
    assert (picture.width, picture.height) == (64, 48)
    assert np.array_equal(pixels(pages(SMOOTH, SMALL, subfiletype=types)), SMOOTH)


def test_a_page_below_a_preview_counts() -> None:
    assert np.array_equal(pixels(pages(SMALL, SMOOTH, subifds=(1, 0))), SMOOTH)
    assert np.array_equal(pixels(pages(SMOOTH, SMALL, subifds=(1, 0))), SMOOTH)


def test_a_mask_is_not_the_picture() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(SMOOTH, photometric="rgb", metadata=None)
        writer.write(np.ones((99, 99), bool), subfiletype=4, metadata=None)
    assert np.array_equal(pixels(file.getvalue()), SMOOTH)


def test_of_pages_of_one_size_the_first_that_shows_something_counts() -> None:
    assert np.array_equal(pixels(pages(SMOOTH, NOISE)), SMOOTH)
    assert np.array_equal(pixels(pages(np.zeros_like(SMOOTH), NOISE, SMOOTH)), NOISE)


def test_a_tiff_of_very_many_pages_is_read_to_a_limit() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for _ in range(2000):
            writer.write(SMALL, photometric="rgb", metadata=None)
        writer.write(SMOOTH, photometric="rgb", metadata=None)
    assert decode(file.getvalue()).width == 16


def test_pages_in_a_circle_are_read_once() -> None:
    data = bytearray(pages(SMALL, SMOOTH))
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        first, second = (page.offset for page in tiff.pages)
    entries = int.from_bytes(data[second : second + 2], "little")
    at = second + 2 + 12 * entries
    data[at : at + 4] = first.to_bytes(4, "little")
    assert np.array_equal(pixels(bytes(data)), SMOOTH)


@pytest.mark.parametrize("first", [0, 1])
def test_the_largest_picture_of_an_mpo_counts(first: int) -> None:
    pictures = [PICTURE, PICTURE.resize((64, 48)).rotate(180)]
    data = encoded(pictures[first], "MPO", save_all=True, append_images=[pictures[1 - first]])
    picture = decode(data, draft=Draft(64))
    assert (picture.width, picture.height, picture.format) == (256, 192, "MPO")
    assert distance(np.asarray(picture.image), PICTURE.resize((64, 48))) < 8


def test_a_film_or_a_gain_map_behind_a_photograph_does_not_count() -> None:
    photo = encoded(PICTURE, "JPEG")
    film = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(5000)
    for rest in (film, b"MotionPhoto_Data" + film, encoded(Image.fromarray(NOISE), "JPEG")):
        assert np.array_equal(pixels(photo + rest), pixels(photo))


def test_the_preview_in_a_heic_is_not_its_picture() -> None:
    import pillow_heif

    file = io.BytesIO()
    heif = pillow_heif.from_pillow(PICTURE.resize((1024, 768)))
    heif.save(file, thumbnails=[512])
    assert distance(np.asarray(decode(file.getvalue(), draft=Draft(128)).image), PICTURE.resize((128, 96))) < 8


@pytest.mark.parametrize("primary", [0, 1, 2])
@pytest.mark.parametrize("thumbnails", [[], [128]])
def test_the_primary_picture_of_a_heic_counts_whatever_the_others_are(primary: int, thumbnails: list[int]) -> None:
    import pillow_heif

    # The primary one may be the smallest, and of one colour.
    pictures = [PICTURE, BLACK, PICTURE.rotate(180).resize((512, 384))]
    heif = pillow_heif.from_pillow(pictures[0])
    for other in pictures[1:]:
        heif.add_from_pillow(other)
    file = io.BytesIO()
    heif.save(file, primary_index=primary, thumbnails=thumbnails)
    picture = decode(file.getvalue(), draft=Draft(64))
    assert (picture.width, picture.height) == pictures[primary].size
    assert distance(np.asarray(picture.image), pictures[primary].resize((64, 48))) < 8
