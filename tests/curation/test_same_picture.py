"""Two pictures are copies after usual changes, and different ones are not, however much they look alike."""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps
from textures import encoded, textured

from imgindex.curation.same_picture import SIDE, View, compare, content_box

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import lookalikes


def view(picture: Image.Image) -> View:
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture.convert("RGBA"))
    white.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    return View(np.asarray(white.convert("RGB")))


def scaled(picture: Image.Image, scale: float) -> Image.Image:
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)


def with_text(picture: Image.Image) -> Image.Image:
    written = picture.copy()
    ImageDraw.Draw(written).text((10, 70), "SAMPLE 2026", "white", ImageFont.load_default(24))
    return written


def on_a_screen(picture: Image.Image) -> Image.Image:
    screen = Image.new("RGB", (270, 480), "black")
    screen.paste(picture, (15, 150))
    ImageDraw.Draw(screen).text((10, 5), "12:45", "white", ImageFont.load_default(14))
    return screen


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "compressed": lambda p: encoded(p, 40),
    "half as large": lambda p: scaled(p, 0.5),
    "twice as large": lambda p: scaled(p, 2),
    "cut": lambda p: p.crop((24, 18, 216, 162)),
    "a corner": lambda p: p.crop((0, 0, 200, 150)),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.2),
    "darker": lambda p: ImageEnhance.Brightness(p).enhance(0.8),
    "grey": lambda p: p.convert("L").convert("RGB"),
    "framed": lambda p: ImageOps.expand(p, (30, 20), "black"),
    "on a screen": on_a_screen,
    "rotated": lambda p: p.rotate(3, Image.Resampling.BICUBIC, fillcolor="white"),
    "written across": with_text,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_picture_is_a_copy(change: str) -> None:
    original = textured(1)
    changed = view(encoded(CHANGES[change](original), 90))
    assert compare(view(original), changed).copy
    assert compare(changed, view(original)).copy


def test_the_share_is_how_much_of_the_larger_picture_both_show() -> None:
    original = textured(1)
    assert compare(view(original), view(encoded(original, 60))).share == pytest.approx(1, abs=0.03)
    cut = compare(view(original), view(original.crop((24, 18, 216, 162))))
    assert cut.copy
    assert cut.share == pytest.approx(0.64, abs=0.06)


def test_other_pictures_a_turned_one_and_a_small_part_are_not_copies() -> None:
    original, other = textured(1), textured(2)
    assert not compare(view(original), view(other)).copy
    assert not compare(view(original), view(original.transpose(Image.Transpose.ROTATE_90))).copy
    assert not compare(view(original), view(ImageOps.mirror(original))).copy
    assert not compare(view(original), view(original.crop((0, 0, 100, 80)))).copy
    collage = Image.new("RGB", (480, 360))
    for number in range(4):
        collage.paste(textured(number), (240 * (number % 2), 180 * (number // 2)))
    assert not compare(view(original), view(collage)).copy


def test_another_colour_is_another_picture() -> None:
    original = textured(1)
    red, green, blue = original.split()
    assert not compare(view(original), view(Image.merge("RGB", (blue, red, green)))).copy


@pytest.mark.parametrize("kind", lookalikes.KINDS)
def test_pictures_that_only_look_alike_are_not_copies(kind: str) -> None:
    import random

    drawn = [view(encoded_as_it_is(lookalikes.KINDS[kind](random.Random(f"{kind} {n}"), n))) for n in range(3)]
    assert [(a, b) for a, b in combinations(range(3), 2) if compare(drawn[a], drawn[b]).copy] == []


@pytest.mark.parametrize("side", [48, 64, 96, 128])
def test_small_coins_of_a_series_are_not_copies(side: int) -> None:
    coins = [picture for kind, _, picture in lookalikes.each() if kind == "coins"]
    views = [view(scaled(coin, side / max(coin.size))) for coin in coins]
    assert not any(compare(a, b).copy for a, b in combinations(views, 2))


def test_real_coins_are_not_copies_of_each_other(photos: Path) -> None:
    with tarfile.open(photos / "photos-dev.tar") as tar:
        coins = [name for name in tar.getnames() if name.startswith("coin/")]
        views = {name: view(Image.open(io.BytesIO(tar.extractfile(name).read()))) for name in coins}
    assert len(views) > 10
    assert [pair for pair in combinations(coins, 2) if compare(views[pair[0]], views[pair[1]]).copy] == []


def encoded_as_it_is(picture: Image.Image) -> Image.Image:
    """The picture, compressed a little unless it is transparent."""
    return picture if picture.mode == "RGBA" else encoded(picture, 92)


@pytest.mark.parametrize("kind", ["pages", "chats", "lists", "forms", "receipts", "plots", "map tiles", "coins"])
def test_a_compressed_page_is_a_copy_of_itself(kind: str) -> None:
    import random

    picture = lookalikes.KINDS[kind](random.Random(kind), 0)
    assert compare(view(picture), view(encoded(scaled(picture, 0.7), 60))).copy


def test_blank_pictures_show_nothing_that_could_agree() -> None:
    white, cream = Image.new("RGB", (300, 200), "white"), Image.new("RGB", (300, 200), (250, 248, 240))
    assert not compare(view(white), view(white)).copy
    assert not compare(view(white), view(cream)).copy
    assert not compare(view(white), view(textured(1))).copy
    assert not compare(view(Image.new("RGB", (1, 1))), view(textured(1))).copy


def test_the_content_is_what_is_inside_a_border_of_any_width() -> None:
    rng = np.random.default_rng(5)
    picture = np.asarray(textured(1, (90, 70))).copy()
    # The outermost lines differ from any border, and have no colour of their own.
    picture[[0, -1]] = rng.choice([0, 120, 255], (2, 90, 3))
    picture[:, [0, -1]] = rng.choice([0, 120, 255], (70, 2, 3))
    for colour in ((0, 0, 0), (255, 255, 255), (250, 10, 90)):
        for _ in range(12):
            left, top, right, bottom = rng.integers(0, 50, 4).tolist()
            framed = np.full((70 + top + bottom, 90 + left + right, 3), colour, dtype=np.uint8)
            framed[top : top + 70, left : left + 90] = picture
            specks = np.clip(framed + rng.integers(-9, 10, framed.shape), 0, 255).astype(np.uint8)
            for shown in (framed, specks):
                assert content_box(shown) == (left, top, left + 90, top + 70)
    assert content_box(np.full((50, 60, 3), 7, dtype=np.uint8)) == (0, 0, 60, 50)
