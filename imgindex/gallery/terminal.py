"""Pictures in a terminal: by Kitty's graphics protocol, or as half blocks, which every terminal with colours shows.

The kind is chosen by the environment. A query to the terminal could wait forever for an answer.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgindex.export.tables import printable
from imgindex.types import Pixels

# The columns and rows of a picture's tile; a cell is about twice as high as wide. Half blocks need larger tiles.
TILE, BLOCKS_TILE, GAP = (18, 9), (24, 12), 2
# Bytes of base64 that Kitty's protocol allows in one escape sequence.
CHUNK = 4096

Rgba = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Screen:
    """A terminal: how it shows pictures (kitty or blocks), its width in columns, and the pixels of a cell."""

    kind: str
    width: int
    cell: tuple[int, int] = (10, 20)

    @property
    def tile(self) -> tuple[int, int]:
        """The columns and rows of a picture's tile."""
        return BLOCKS_TILE if self.kind == "blocks" else TILE

    @property
    def pixels(self) -> tuple[int, int]:
        """The width and height of a cell in pixels of a picture."""
        return (1, 2) if self.kind == "blocks" else self.cell

    @property
    def side(self) -> int:
        """The longer side of a picture in pixels."""
        return max(16, min(self.tile[0] * self.pixels[0], self.tile[1] * self.pixels[1]))


def detect(environment: Mapping[str, str]) -> str:
    """Return how a terminal with this environment shows pictures; "" for one without colours."""
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if term in ("", "dumb"):
        return ""
    blocks = "" if environment.get("NO_COLOR") else "blocks"
    # tmux and screen keep the variables of the terminal around them, but do not pass its pictures on.
    if "TMUX" in environment or term.startswith(("screen", "tmux")):
        return blocks
    if "KITTY_WINDOW_ID" in environment or "kitty" in term or "ghostty" in term or program == "ghostty":
        return "kitty"
    return blocks


def rows(screen: Screen, tiles: Sequence[tuple[Pixels | None, str]]) -> Iterator[bytes]:
    """Yield rows of pictures with their captions below, each as wide as the terminal allows."""
    columns, _ = screen.tile
    each = max(1, (screen.width + GAP) // (columns + GAP))
    for start in range(0, len(tiles), each):
        part = tiles[start : start + each]
        strip = _strip(screen, [pixels for pixels, _ in part])
        yield (_kitty(strip, screen) if screen.kind == "kitty" else _blocks(strip, screen)) + b"\n"
        captions = (" " * GAP).join(_fitting(printable(caption), columns) for _, caption in part)
        yield f"{captions.rstrip()}\n\n".encode()


def _fitting(text: str, columns: int) -> str:
    """Return a text in exactly so many columns: shortened in its middle, since names often differ at their ends."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= columns:
        return set_cell_size(text, columns)
    end = (columns - 1) // 2
    tail = text
    while cell_len(tail) > end:
        tail = tail[1:]
    # A mark without its letter would stand on the ellipsis.
    while tail and cell_len(tail[0]) == 0:
        tail = tail[1:]
    return f"{set_cell_size(text, columns - 1 - cell_len(tail))}…{tail}"


def _strip(screen: Screen, pictures: Sequence[Pixels | None]) -> Rgba:
    """Return the pictures of a row side by side, (height, width, 4), transparent around them."""
    (across, down), (columns, rows) = screen.pixels, screen.tile
    cells = len(pictures) * (columns + GAP) - GAP
    strip = np.zeros((rows * down, cells * across, 4), np.uint8)
    for number, pixels in enumerate(pictures):
        if pixels is not None:
            height, width = min(pixels.shape[0], rows * down), min(pixels.shape[1], columns * across)
            top = (rows * down - height) // 2
            left = number * (columns + GAP) * across + (columns * across - width) // 2
            strip[top : top + height, left : left + width, :3] = pixels[:height, :width]
            strip[top : top + height, left : left + width, 3] = 255
    return strip


def _kitty(strip: Rgba, screen: Screen) -> bytes:
    """Return escape sequences of https://sw.kovidgoyal.net/kitty/graphics-protocol; q=2 suppresses the answer."""
    file = io.BytesIO()
    Image.fromarray(strip).save(file, "png")
    data = base64.b64encode(file.getvalue())
    chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    columns = strip.shape[1] // screen.pixels[0]
    parts = []
    for number, chunk in enumerate(chunks):
        first = f"a=T,f=100,q=2,c={columns},r={screen.tile[1]}," if number == 0 else ""
        more = int(number < len(chunks) - 1)
        parts.append(b"\x1b_G" + f"{first}m={more};".encode() + chunk + b"\x1b\\")
    return b"".join(parts)


def _blocks(strip: Rgba, screen: Screen) -> bytes:
    """Return text with two pixels in each cell, one above the other, in as many colours as the terminal has."""
    from rich.color import Color
    from rich.console import Console
    from rich.style import Style
    from rich.text import Text

    def colour(pixel: list[int]) -> Color | None:
        return Color.from_rgb(*pixel[:3]) if pixel[3] else None

    lines = []
    for upper, lower in zip(strip[::2].tolist(), strip[1::2].tolist(), strict=True):
        line = Text(no_wrap=True)
        for above, below in zip(upper, lower, strict=True):
            if above[3]:
                line.append("▀", Style(color=colour(above), bgcolor=colour(below)))
            else:
                line.append("▄" if below[3] else " ", Style(color=colour(below)))
        line.rstrip()
        lines.append(line)
    file = io.StringIO()
    Console(file=file, force_terminal=True, width=max(screen.width, strip.shape[1])).print(*lines, sep="\n", end="")
    return file.getvalue().encode()
