"""Pictures in a terminal: each kind is decoded by a reader of its own."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from imgindex.gallery import terminal
from imgindex.gallery.terminal import Screen, detect, rows

KINDS = ("kitty", "blocks")


def picture(screen: Screen, colour: tuple[int, int, int] = (200, 40, 90)) -> np.ndarray:
    """Upper half of one colour, lower half black, twice as wide as high."""
    made = np.zeros((screen.side // 2, screen.side, 3), np.uint8)
    made[: screen.side // 4] = colour
    return made


def shown(screen: Screen, count: int = 2) -> list[bytes]:
    return list(rows(screen, [(picture(screen), f"{number} name") for number in range(count)]))


def strip_of(data: bytes, kind: str) -> np.ndarray:
    """The RGBA picture that a terminal of this kind would draw."""
    if kind == "kitty":
        parts = re.findall(rb"\x1b_G([^;]*);([^\x1b]*)\x1b\\", data)
        assert all(len(chunk) <= 4096 for _, chunk in parts)
        assert [b"m=1" in head for head, _ in parts] == [True] * (len(parts) - 1) + [False]
        assert b"a=T,f=100,q=2" in parts[0][0]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(b"".join(chunk for _, chunk in parts)))))
    return blocks(data.decode())


def blocks(text: str) -> np.ndarray:
    """Read half blocks and their 24-bit colours, two pixels a cell."""
    lines = []
    for line in text.removesuffix("\n").split("\n"):
        upper, lower = [], []
        fore = back = (0, 0, 0, 0)
        for code, char in re.findall(r"\x1b\[([\d;]*)m|(.)", line):
            if char:
                above, below = {"▀": (fore, back), "▄": (back, fore), " ": (back, back)}[char]
                upper.append(above)
                lower.append(below)
                continue
            if code in ("", "0"):
                fore = back = (0, 0, 0, 0)
            for which, *colour in re.findall(r"(38|48);2;(\d+);(\d+);(\d+)", code):
                pixel = (*map(int, colour), 255)
                fore, back = (pixel, back) if which == "38" else (fore, pixel)
        lines += [upper, lower]
    width = max(map(len, lines))
    return np.array([line + [(0, 0, 0, 0)] * (width - len(line)) for line in lines], np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_draws_the_pictures_in_their_tiles(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    screen = Screen(kind, 80)
    strip = strip_of(shown(screen)[0], kind)
    (across, down), (columns, lines) = screen.pixels, screen.tile
    assert strip.shape[0] == lines * down
    for left in (0, (columns + 2) * across):
        tile = strip[:, left : left + columns * across]
        opaque = np.argwhere(tile[..., 3])
        (top, first), (bottom, last) = opaque.min(axis=0), opaque.max(axis=0)
        assert (last - first + 1, bottom - top + 1) == (screen.side, screen.side // 2)
        middle = (top + bottom + 1) // 2
        assert np.abs(tile[top:middle, first : last + 1, :3].astype(int) - (200, 40, 90)).max() <= 3
        assert tile[middle : bottom + 1, first : last + 1, :3].max() <= 3
    gap = strip[:, columns * across : (columns + 2) * across]
    assert not gap[..., 3].any()


@pytest.mark.parametrize("kind", KINDS)
def test_captions_are_below_their_pictures_and_rows_fit_the_terminal(kind: str) -> None:
    screen = Screen(kind, 60)
    columns, _ = screen.tile
    each = (60 + 2) // (columns + 2)
    parts = shown(screen, each + 1)
    assert len(parts) == 4
    captions = parts[1].decode().rstrip("\n")
    assert [captions.index(f"{number} name") for number in range(each)] == [n * (columns + 2) for n in range(each)]
    assert len(captions) <= 60
    assert parts[3].decode().strip() == f"{each} name"
    assert len(shown(Screen(kind, 1), 2)) == 4


def test_captions_contain_no_control_characters_and_are_cut_by_their_width() -> None:
    screen = Screen("kitty", 80)
    (_, captions) = rows(screen, [(None, "\x1b[31mred\n"), (None, "片" * 30), (None, "w" * 40)])
    text = captions.decode()
    assert "\x1b" not in text
    assert text.count("\n") == 2
    assert "…" in text
    before = text[: text.index("w")]
    assert len(before) + before.count("片") == 2 * (18 + 2)


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "blocks"),
        ({"TERM": "foot"}, "blocks"),
        ({"TERM": "xterm-256color"}, "blocks"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1", "TMUX": "x"}, "blocks"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, ""),
        ({"TERM": "dumb"}, ""),
        ({}, ""),
    ],
    ids=str,
)
def test_the_kind_is_chosen_by_the_environment(environment: dict[str, str], kind: str) -> None:
    assert detect(environment) == kind


@pytest.mark.parametrize(
    "name", ["holiday-in-the-mountains-0001.jpg", "日本語の長い名前の写真.jpg", "a" * 90, "cafe\u0301" * 9]
)
def test_a_long_caption_is_shortened_in_its_middle_to_the_width_of_its_picture(name: str) -> None:
    from rich.cells import cell_len

    other = f"{name[:-5]}{chr(ord(name[-5]) + 1)}{name[-4:]}"
    first, second = (terminal._fitting(one, 18) for one in (name, other))
    assert cell_len(first) == cell_len(second) == 18
    assert first.startswith(name[:3])
    assert first != second
