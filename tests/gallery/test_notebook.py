"""What a notebook shows of an index, and of a page: pictures, escaped names, and no more than fits."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pictures import draw
from PIL import Image

from imgindex import ImageIndex
from imgindex.gallery.model import ImageCard, Section
from imgindex.gallery.notebook import IN_ALL, IN_SECTION, SIDE, sheet_html


class Seen(HTMLParser):
    """The pictures and the text of some HTML, whose elements have to be closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.pictures: list[Image.Image] = []
        self.text = ""
        self.tags: set[str] = set()
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            data = re.sub("^data:image/webp;base64,", "", dict(attrs)["src"] or "")
            self.pictures.append(Image.open(io.BytesIO(base64.b64decode(data, validate=True))))
        elif tag != "br":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_an_index_shows_a_few_of_its_images(index: ImageIndex, folder: Path) -> None:
    for number in range(40):
        draw(folder / f"c/{number}.png", number + 20, (64, 32))
    index.add([folder])
    seen = Seen(index._repr_html_())
    assert len(seen.pictures) == 24
    assert max(seen.pictures[-1].size) == SIDE
    assert f"{len(index)} images" in seen.text
    assert Path(index.paths()[0]).name in seen.text
    assert Path(index.paths()[-1]).name in seen.text
    assert seen.tags == {"div", "p", "b", "img", "br"}


def test_an_empty_index_and_a_closed_one_show_their_name(index: ImageIndex) -> None:
    assert "0 images" in Seen(index._repr_html_()).text
    index.close()
    assert "closed" in Seen(index._repr_html_()).text


def test_a_missing_file_is_shown_as_the_reason(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    (folder / "a/0.png").unlink()
    seen = Seen(index._repr_html_())
    assert len(seen.pictures) == 11
    assert "No such file" in seen.text


def test_names_are_text(index: ImageIndex, tmp_path: Path) -> None:
    name = """<b onclick="x('y')">&amp;.png"""
    draw(tmp_path / "p/plain.png", 3).rename(tmp_path / "p" / name)
    index.add([tmp_path / "p"])
    seen = Seen(index._repr_html_())
    assert name in seen.text


def test_the_page_of_a_result_shows_its_sections(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    answers = index.answers([folder / "a/0.png", folder / "b/7.png"], n=4)
    seen = Seen(index.gallery(answers)._repr_html_())
    assert len(seen.pictures) >= 2 * 4
    clustering = index.cluster(2)
    assert len(Seen(index.gallery(clustering)._repr_html_()).pictures) == 12


@pytest.mark.parametrize(("sections", "expected"), [(1, IN_SECTION), (3, 3 * IN_SECTION), (20, IN_ALL)])
def test_no_more_is_shown_than_fits(sections: int, expected: int, folder: Path) -> None:
    cards = [ImageCard(str(folder / "a/0.png"), caption=f"{number}.") for number in range(30)]
    seen = Seen(sheet_html("all", [Section(f"section {number}", cards) for number in range(sections)]))
    assert len(seen.pictures) == expected
    assert "18 more" in seen.text
