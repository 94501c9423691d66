"""Contact sheets: every image once, in its place, never taller than what programs open."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from conftest import draw
from PIL import Image

from imgindex import ImageIndex
from imgindex.errors import UsageError
from imgindex.reports.pages.model import Section, Shown
from imgindex.reports.sheet import SIDE, TALLEST, lay_out, numbered
from imgindex.reports.sheet import draw as draw_sheet


def sections(*counts: int) -> list[Section]:
    return [
        Section(f"section {number}", [Shown(f"{number}/{image}.png") for image in range(count)])
        for number, count in enumerate(counts)
    ]


def test_every_image_has_a_place_of_its_own_within_its_sheet() -> None:
    asked = sections(3, 1, 20, 9)
    (sheet,) = lay_out(asked)
    assert [cell.shown for cell in sheet.cells] == [shown for section in asked for shown in section.shown]
    assert [title for _, title in sheet.headings] == [section.title for section in asked]
    taken = np.zeros((sheet.height, sheet.width), int)
    for cell in sheet.cells:
        taken[cell.y : cell.y + SIDE, cell.x : cell.x + SIDE] += 1
    assert taken.max() == 1
    assert taken.sum() == 33 * SIDE**2


def test_what_one_sheet_cannot_hold_goes_on_to_the_next() -> None:
    asked = sections(500, 100, 400)
    sheets = lay_out(asked)
    assert len(sheets) > 1
    assert all(sheet.height <= TALLEST for sheet in sheets)
    assert [c.shown for sheet in sheets for c in sheet.cells] == [shown for one in asked for shown in one.shown]
    assert sheets[1].headings[0][1].endswith("(continued)")
    assert [numbered("a/b.c.png", number) for number in (1, 2, 3)] == ["a/b.c.png", "a/b.c-2.png", "a/b.c-3.png"]


def test_pictures_lie_in_their_cells_and_a_missing_one_is_said() -> None:
    (sheet,) = lay_out(sections(3))
    red = np.zeros((SIDE, SIDE // 2, 3), np.uint8)
    red[..., 0] = 255
    image = np.asarray(Image.open(io.BytesIO(draw_sheet(sheet, {"0/0.png": red, "0/1.png": None}))))
    assert image.shape == (sheet.height, sheet.width, 3)
    first, second, third = sheet.cells
    assert (image[first.y : first.y + SIDE, first.x + 40 : first.x + 120] == (255, 0, 0)).all()
    assert (image[first.y + 20 : first.y + 140, first.x : first.x + 40] != (255, 0, 0)).any(axis=2).all()
    for cell in (second, third):
        part = image[cell.y : cell.y + SIDE, cell.x : cell.x + SIDE]
        assert part.min() < 150  # letters
        assert not (part == (255, 0, 0)).all(axis=2).any()


@pytest.mark.parametrize("name", ["片é.png", "\udcff\n\x1b[31m.png", "x" * 300 + ".png", "a b  c.png", ".png"])
def test_captions_of_any_name_are_drawn(name: str) -> None:
    (sheet,) = lay_out([Section(name, [Shown(name), Shown(name, caption=f"1  0.123  {name}")])])
    assert draw_sheet(sheet, {}).startswith(b"\x89PNG")


def test_nothing_to_show_is_an_empty_sheet() -> None:
    (sheet,) = lay_out([])
    assert draw_sheet(sheet, {}).startswith(b"\x89PNG")


def test_an_index_writes_the_sheets_of_a_page(index: ImageIndex, folder: Path, tmp_path: Path) -> None:
    index.add([folder])
    page = index.outliers_page(index.outliers(n=5))
    (name,) = index.write_sheet(page, tmp_path / "sheet.png")
    image = np.asarray(Image.open(name))
    (sheet,) = lay_out(page.sections())
    for cell in sheet.cells:
        middle = image[cell.y + SIDE // 2, cell.x + SIDE // 2]
        np.testing.assert_allclose(middle, np.asarray(Image.open(cell.shown.path))[0, 0], atol=3)
    draw(folder / "a/0.png", 0).unlink()
    assert index.write_sheet(index.outliers_page(index.outliers(n=50)), tmp_path / "again.png")
    with pytest.raises(UsageError, match="sheet"):
        index.write_sheet(page, tmp_path / "sheet.gif")
