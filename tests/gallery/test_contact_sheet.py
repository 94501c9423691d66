"""Contact sheets: every image once, in its place, and no sheet too tall."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from pictures import draw
from PIL import Image

from imgindex import ImageIndex
from imgindex.errors import UsageError
from imgindex.gallery import fonts
from imgindex.gallery.contact_sheet import MARGIN, SIDE, TALLEST, lay_out, numbered
from imgindex.gallery.contact_sheet import draw as draw_sheet
from imgindex.gallery.model import ImageCard, Section


def sections(*counts: int) -> list[Section]:
    return [
        Section(f"section {number}", [ImageCard(f"{number}/{image}.png") for image in range(count)])
        for number, count in enumerate(counts)
    ]


def test_every_image_has_a_place_of_its_own_within_its_sheet() -> None:
    asked = sections(3, 1, 20, 9)
    (sheet,) = lay_out(asked)
    assert [cell.card for cell in sheet.cells] == [card for section in asked for card in section.cards]
    assert [title for _, title in sheet.headings] == [section.title for section in asked]
    taken = np.zeros((sheet.height, sheet.width), int)
    for cell in sheet.cells:
        taken[cell.y : cell.y + SIDE, cell.x : cell.x + SIDE] += 1
    assert taken.max() == 1
    assert taken.sum() == 33 * SIDE**2


def test_images_that_do_not_fit_go_to_further_sheets() -> None:
    asked = sections(500, 100, 400)
    sheets = lay_out(asked)
    assert len(sheets) > 1
    assert all(sheet.height <= TALLEST for sheet in sheets)
    assert [cell.card for sheet in sheets for cell in sheet.cells] == [card for one in asked for card in one.cards]
    assert sheets[1].headings[0][1].endswith("(continued)")
    assert [numbered("a/b.c.png", number) for number in (1, 2, 3)] == ["a/b.c.png", "a/b.c-2.png", "a/b.c-3.png"]


def test_pictures_are_in_their_cells_and_a_missing_one_is_marked() -> None:
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
def test_any_file_name_can_be_drawn_as_a_caption(name: str) -> None:
    (sheet,) = lay_out([Section(name, [ImageCard(name), ImageCard(name, caption=f"1  0.123  {name}")])])
    assert draw_sheet(sheet, {}).startswith(b"\x89PNG")


def test_a_character_without_a_font_is_a_box_and_the_sheet_says_so() -> None:
    (sheet,) = lay_out([Section("s", [ImageCard("a.png"), ImageCard("b.png")])])
    # Of old scripts, which few machines have a font for.
    rare = next((char for char in "𓃠𒀀𐎠𐤀" if fonts.missing(char)), None)
    if rare is None:
        pytest.skip("this machine has a font for every script")
    (other,) = lay_out([Section("s", [ImageCard("a.png"), ImageCard(f"{rare}.png")])])
    plain, boxed = (np.asarray(Image.open(io.BytesIO(draw_sheet(one, {})))) for one in (sheet, other))
    assert (plain[-MARGIN:] == 255).all()
    assert (boxed[-MARGIN:] < 150).any()


def test_no_sections_make_an_empty_sheet() -> None:
    (sheet,) = lay_out([])
    assert draw_sheet(sheet, {}).startswith(b"\x89PNG")


def test_an_index_writes_the_sheets_of_a_page(index: ImageIndex, folder: Path, tmp_path: Path) -> None:
    index.add([folder])
    page = index.gallery(index.outliers(n=5))
    (name,) = page.write_sheet(tmp_path / "sheet.png")
    image = np.asarray(Image.open(name))
    (sheet,) = lay_out(page.page.sections())
    for cell in sheet.cells:
        middle = image[cell.y + SIDE // 2, cell.x + SIDE // 2]
        np.testing.assert_allclose(middle, np.asarray(Image.open(cell.card.path))[0, 0], atol=3)
    draw(folder / "a/0.png", 0).unlink()
    assert index.gallery(index.outliers(n=50)).write_sheet(tmp_path / "again.png")
    with pytest.raises(UsageError, match="sheet"):
        page.write_sheet(tmp_path / "sheet.gif")
