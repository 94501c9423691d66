"""Pictures in a terminal: by Kitty's protocol, iTerm2's, as Sixel, or as half blocks, which every terminal shows.

The terminal is not asked what it can do, since one that does not answer would hang: its name in the environment tells.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgindex.reports.formats import printable
from imgindex.types import Pixels

# A picture's tile in cells, which are about twice as high as wide; of half blocks a picture needs more to be seen.
TILE, BLOCKS_TILE, GAP = (18, 9), (24, 12), 2
COLOURS = 128  # of a Sixel picture
CHUNK = 4096  # of Kitty's protocol

Rgba = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Screen:
    """A terminal: how it shows pictures (kitty, iterm2, sixel or blocks), its columns, and a cell's pixels."""

    kind: str
    width: int
    cell: tuple[int, int] = (10, 20)

    @property
    def tile(self) -> tuple[int, int]:
        """Columns and rows of cells that one picture has."""
        return BLOCKS_TILE if self.kind == "blocks" else TILE

    @property
    def pixels(self) -> tuple[int, int]:
        """Width and height in pixels that one cell has in a picture."""
        return (1, 2) if self.kind == "blocks" else self.cell

    @property
    def side(self) -> int:
        """Pixels of the longer side of a picture in its tile."""
        return max(16, min(self.tile[0] * self.pixels[0], self.tile[1] * self.pixels[1]))


def detect(environment: Mapping[str, str]) -> str:
    """Return how a terminal with this environment shows pictures; nothing where it does not even show colours."""
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if term in ("", "dumb"):
        return ""
    plain = "" if environment.get("NO_COLOR") else "blocks"
    # What sits in between keeps the variables of the terminal outside, and takes its pictures for rubbish.
    if "TMUX" in environment or term.startswith(("screen", "tmux")):
        return plain
    if "KITTY_WINDOW_ID" in environment or "kitty" in term or "ghostty" in term or program == "ghostty":
        return "kitty"
    if program in ("iTerm.app", "WezTerm", "mintty") or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    return "sixel" if term.split("-")[0] in ("foot", "mlterm", "contour", "yaft") else plain


def rows(screen: Screen, tiles: Sequence[tuple[Pixels | None, str]]) -> Iterator[bytes]:
    """Yield rows of pictures with their captions below, as many to a row as the terminal is wide."""
    columns, _ = screen.tile
    each = max(1, (screen.width + GAP) // (columns + GAP))
    for start in range(0, len(tiles), each):
        part = tiles[start : start + each]
        yield ENCODERS[screen.kind](_strip(screen, [pixels for pixels, _ in part]), screen) + b"\n"
        captions = (" " * GAP).join(_fitting(printable(caption), columns) for _, caption in part)
        yield f"{captions.rstrip()}\n\n".encode()


def _fitting(text: str, columns: int) -> str:
    from rich.cells import cell_len, set_cell_size

    return set_cell_size(text, columns) if cell_len(text) <= columns else f"{set_cell_size(text, columns - 1)}…"


def _strip(screen: Screen, pictures: Sequence[Pixels | None]) -> Rgba:
    """Put the pictures of a row side by side, with nothing around them: (height, width, 4), opaque where one is."""
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


def _png(strip: Rgba) -> bytes:
    file = io.BytesIO()
    Image.fromarray(strip).save(file, "png")
    return base64.b64encode(file.getvalue())


def _kitty(strip: Rgba, screen: Screen) -> bytes:
    """See https://sw.kovidgoyal.net/kitty/graphics-protocol; q=2 asks for no answer."""
    data = _png(strip)
    chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    columns = strip.shape[1] // screen.pixels[0]
    parts = []
    for number, chunk in enumerate(chunks):
        first = f"a=T,f=100,q=2,c={columns},r={screen.tile[1]}," if number == 0 else ""
        more = int(number < len(chunks) - 1)
        parts.append(b"\x1b_G" + f"{first}m={more};".encode() + chunk + b"\x1b\\")
    return b"".join(parts)


def _iterm2(strip: Rgba, screen: Screen) -> bytes:
    """See https://iterm2.com/documentation-images.html."""
    data = _png(strip)
    columns = strip.shape[1] // screen.pixels[0]
    about = f"inline=1;width={columns};height={screen.tile[1]};preserveAspectRatio=0"
    return b"\x1b]1337;File=" + about.encode() + b":" + data + b"\x07"


def _sixel(strip: Rgba, screen: Screen) -> bytes:
    """See chapter 14 of DEC's VT330/VT340 programmer reference: six rows at a time, a colour after the other."""
    height, width, _ = strip.shape
    image = Image.fromarray(strip[..., :3]).quantize(COLOURS)
    colours = np.asarray(image).astype(np.int64)
    palette = np.asarray((image.getpalette() or [])[: 3 * COLOURS]).reshape(-1, 3)
    colours[strip[..., 3] == 0] = -1
    head = f'\x1bP0;1;0q"1;1;{width};{height}'
    inks = "".join(
        f"#{number};2;{red};{green};{blue}"
        for number, (red, green, blue) in enumerate(np.rint(palette / 2.55).astype(int).tolist())
    )
    bands = []
    for top in range(0, height, 6):
        band = colours[top : top + 6]
        weights = 1 << np.arange(len(band))
        used = np.unique(band[band >= 0]).tolist()
        bands.append("$".join(f"#{ink}{_runs(weights @ (band == ink))}" for ink in used))
    return f"{head}{inks}{'-'.join(bands)}\x1b\\".encode()


def _runs(values: npt.NDArray[np.int64]) -> str:
    """Write values 0…63 as Sixel's characters, repeated ones by their count."""
    starts = np.flatnonzero(np.diff(values, prepend=-1))
    lengths = np.diff(np.append(starts, len(values)))
    chars = [chr(63 + value) for value in values[starts].tolist()]
    return "".join(
        char * count if count < 4 else f"!{count}{char}" for char, count in zip(chars, lengths.tolist(), strict=True)
    )


def _blocks(strip: Rgba, screen: Screen) -> bytes:
    """Two pixels to a cell, one above the other, in as many colours as the terminal has."""
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


ENCODERS: dict[str, Callable[[Rgba, Screen], bytes]] = {
    "kitty": _kitty,
    "iterm2": _iterm2,
    "sixel": _sixel,
    "blocks": _blocks,
}
