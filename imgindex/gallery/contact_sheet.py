"""Contact sheets: sections of images in a grid with captions, as PNG files."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from imgindex.errors import UsageError
from imgindex.export.atomic import is_stream
from imgindex.export.tables import printable
from imgindex.gallery import fonts
from imgindex.gallery.model import ImageCard, Section
from imgindex.types import Pixels

SIDE, GAP, MARGIN, COLUMNS = 160, 14, 28, 8
CAPTION, LINE, HEADING = 2, 16, 44
# Viewers and browsers refuse taller pictures; further images go to further sheets.
TALLEST = 10_000
INK, SOFT, LINE_COLOUR, PAPER, SUNK = (29, 29, 27), (98, 98, 93), (226, 226, 222), (255, 255, 255), (240, 240, 238)
# Sizes of letters in pixels.
SMALL, LARGE = 12, 18
FOOTNOTE = "A box with a number stands for a character that no font of this machine has."


@dataclass(frozen=True, slots=True)
class Cell:
    """An image and its place on the sheet, in pixels from the upper left corner."""

    x: int
    y: int
    card: ImageCard


@dataclass(slots=True)
class Sheet:
    """The cells of one file, and its headings with their distance from the top."""

    width: int
    height: int = MARGIN
    cells: list[Cell] = field(default_factory=list)
    headings: list[tuple[int, str]] = field(default_factory=list)


def lay_out(sections: Sequence[Section]) -> list[Sheet]:
    """Return the sheets for some sections, each at most 10,000 pixels high, with at most 8 images in a row."""
    columns = max(3, min(COLUMNS, max((len(section.cards) for section in sections), default=0)))
    width = 2 * MARGIN + columns * (SIDE + GAP) - GAP
    sheets = [Sheet(width)]
    step = SIDE + CAPTION * LINE + GAP
    for section in sections:
        for number, row in enumerate(_rows(section.cards, columns)):
            title = section.title if number == 0 else ""
            if sheets[-1].height + HEADING + step + MARGIN > TALLEST:
                sheets.append(Sheet(width))
                title = f"{section.title} (continued)" if number else title
            sheet = sheets[-1]
            if title:
                sheet.headings.append((sheet.height, title))
                sheet.height += HEADING
            sheet.cells += [Cell(MARGIN + column * (SIDE + GAP), sheet.height, card) for column, card in enumerate(row)]
            sheet.height += step
    for sheet in sheets:
        sheet.height += MARGIN - GAP
    return sheets


def _rows(cards: Sequence[ImageCard], columns: int) -> Iterator[Sequence[ImageCard]]:
    return (cards[start : start + columns] for start in range(0, len(cards), columns))


def draw(sheet: Sheet, pictures: Mapping[str, Pixels | None]) -> bytes:
    """Return a sheet as PNG; pictures: by path, pixels (height, width, 3) of at most 160 a side, None without one."""
    paper = Image.new("RGB", (sheet.width, sheet.height), PAPER)
    pen, texts = ImageDraw.Draw(paper), []
    for top, title in sheet.headings:
        pen.line((MARGIN, top, sheet.width - MARGIN, top), LINE_COLOUR)
        texts.append(fonts.fitting(printable(title), sheet.width - 2 * MARGIN, LARGE))
        fonts.draw(paper, (MARGIN, top + 12), texts[-1], INK, LARGE)
    for cell in sheet.cells:
        box = (cell.x, cell.y, cell.x + SIDE - 1, cell.y + SIDE - 1)
        pen.rounded_rectangle(box, 8, SUNK)
        pixels = pictures.get(cell.card.path)
        if pixels is None:
            text = "not available"
            left = cell.x + round((SIDE - fonts.length(text, SMALL)) / 2)
            fonts.draw(paper, (left, cell.y + SIDE // 2 - 8), text, SOFT, SMALL)
        else:
            height, width, _ = pixels.shape
            paper.paste(Image.fromarray(pixels), (cell.x + (SIDE - width) // 2, cell.y + (SIDE - height) // 2))
        for number, line in enumerate(fonts.lines(printable(cell.card.display_caption), SIDE, SMALL)):
            texts.append(line)
            fonts.draw(paper, (cell.x, cell.y + SIDE + 5 + number * LINE), line, INK, SMALL)
    if any(fonts.missing(text) for text in texts):
        fonts.draw(paper, (MARGIN, sheet.height - MARGIN + 6), FOOTNOTE, SOFT, SMALL)
    file = io.BytesIO()
    paper.save(file, "png", optimize=True)
    return file.getvalue()


def check_sheet(out: str) -> None:
    """Raise UsageError unless a contact sheet can have that name: one that ends in .png, or that of a pipe."""
    if os.path.splitext(out)[1].lower() != ".png" and not is_stream(out):
        raise UsageError(f"{out!r} cannot be a contact sheet", hint="end the name in .png")


def numbered(out: str, number: int) -> str:
    """Return the name of the first, second, … file: sheet.png, sheet-2.png, …"""
    stem, ending = os.path.splitext(out)
    return out if number == 1 else f"{stem}-{number}{ending}"
