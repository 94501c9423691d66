"""Pages as text: what is inside, what hostile names become, and how a page finds the files."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pytest

import imgindex.looking.pages
from imgindex import ImageIndex
from imgindex.answers.clusterings import KScore
from imgindex.looking.pages import link
from imgindex.reports.pages.chart import chart
from imgindex.reports.pages.model import (
    ClusterPage,
    ClusterView,
    DuplicatesPage,
    MapView,
    MatchesPage,
    PageGroup,
    QueryView,
    Shown,
)
from imgindex.reports.pages.render import Picture, render
from imgindex.reports.pages.words import pairs, percent

HOSTILE = [
    "</script><script>fired()</script>.png",
    '"><img src=x onerror=fired()>.png',
    "' onmouseover='fired()'.png",
    "a\nb\x1b[31m.png",
    "\udcff\u2028\u202e.png",
    "{{ 7 * 7 }}{% raw %}.png",
    "<!--<script>.png",
]


OURS = {"a", "aside", "body", "button", "canvas", "circle", "dd", "dialog", "div", "dl", "dt", "figcaption", "figure"}
OURS |= {
    "footer",
    "h1",
    "h2",
    "h3",
    "head",
    "header",
    "html",
    "img",
    "input",
    "label",
    "link",
    "main",
    "meta",
    "output",
}
OURS |= {"p", "script", "section", "small", "span", "strong", "style", "svg", "title", "wbr"}


class Tags(HTMLParser):
    """The names of all elements and attributes of a page, as a parser finds them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}


def page_of(names: list[str]) -> ClusterPage:
    shown = [Shown(name, number, 0.5, 0.9, note=name) for number, name in enumerate(names, 1)]
    view = ClusterView(0, names[0], len(names), 0.5, shown[0], shown, shown[::-1], shown)
    plane = MapView(
        list(range(1, len(names) + 1)),
        names,
        [0] * len(names),
        {"pca": [(float(n), 0.0) for n in range(len(names))]},
        9,
    )
    return ClusterPage(names[0], [(names[1], names[2])], [view], plane)


def test_hostile_names_are_text_everywhere() -> None:
    pictures = {name: Picture(b"RIFF", 1, 1) for name in HOSTILE[:4]}
    pictures |= {name: Picture(reason=name) for name in HOSTILE[4:]}
    text = render(page_of(HOSTILE), pictures, {1: b"x"}).decode()
    assert len(re.findall(r"<script", text)) == 2  # ours, and the map's data
    assert len(re.findall(r"</script", text)) == 2
    assert len(re.findall("<style", text)) == 1
    tags = Tags()
    tags.feed(text)
    assert tags.names <= OURS
    assert not [name for name in tags.attributes if name.startswith("on")]
    assert "{{ 7 * 7 }}" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    data = text.split('id="map-data">')[1].split("</script>")[0]
    assert not set("<>&") & set(data)


def test_a_picture_that_stands_in_several_places_is_inside_once() -> None:
    data = os.urandom(3000)
    text = render(page_of(["a.png", "b.png", "c.png"]), {"a.png": Picture(data, 10, 10)}).decode()
    assert text.count("data:image/webp;base64,") - text.count("`data:image/webp;base64,") == 1
    assert text.count('data-copy="p0"') == 3
    assert text.count("not drawn") >= 2


def test_a_page_asks_for_nothing_from_elsewhere() -> None:
    text = render(page_of(["a.png", "b.png", "c.png"]), {}).decode()
    assert re.findall(r"""(?:src|href)=["']?(?!data:|#|\{)([^"'\s>]+)""", text) == []
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert "default-src &#39;none&#39;" in text


def test_pages_without_anything_to_show_say_so() -> None:
    assert "No two images duplicate each other" in render(DuplicatesPage("none", [], []), {}).decode()
    empty = MatchesPage("t", [], [QueryView(Shown("q.png"), []), QueryView(Shown("r.png"), [], "file is empty")])
    text = render(empty, {}).decode()
    assert "No image of the index is as near" in text
    assert "could not be compared: file is empty" in text
    assert "<h1>none</h1>" in render(ClusterPage("none", [], []), {}).decode()


def test_groups_of_duplicates_say_which_image_is_kept_and_why() -> None:
    group = PageGroup(Shown("big.png"), "largest: 400 × 300", [Shown("small.png", 2, 0.0, 1.0, "same bytes")])
    text = render(DuplicatesPage("1 group", [], [group]), {}).decode()
    assert text.index("largest: 400 × 300") < text.index("same bytes")
    assert "2 images" in text


@pytest.mark.parametrize(
    "name",
    [b"plain.png", b"with space.png", b"a#b?c%d&e.png", b"x:y.png", b"\xff\n.png", "é片.png".encode(), b"'\".png"],
)
def test_a_link_leads_from_the_page_to_the_file_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    (tmp_path / "reports").mkdir()
    monkeypatch.chdir(tmp_path)
    way = link(os.fsdecode(b"photos/" + name), "reports/page.html")
    assert way.isascii()
    parts = urlsplit(way)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
    assert unquote_to_bytes(way) == b"../photos/" + name
    assert unquote_to_bytes(link(os.fsdecode(name), "page.html")) == name


def test_shares_are_said_so_that_nothing_is_claimed_to_be_all() -> None:
    assert percent(0.5) == "50.0\u00a0%"
    assert percent(0.99999) == "99.99\u00a0%"
    assert percent(0.00001) == "0.01\u00a0%"
    assert (percent(1.0), percent(0.0)) == ("100\u00a0%", "0\u00a0%")
    assert pairs(0.992) == "nearer than 99.20\u00a0% of all pairs"
    assert pairs(0.25) == "farther than 75.0\u00a0% of all pairs"
    assert pairs(1.0) == "nearer than any other pair"
    assert pairs(0.0) == "farther than any other pair"
    assert pairs(None) == ""


def test_a_curve_over_k_is_drawn_with_the_greatest_on_top_and_the_chosen_marked() -> None:
    scores = [KScore(k, 0.5, silhouette, 0.9) for k, silhouette in ((2, 0.1), (3, 0.4), (4, 0.2))]
    drawn = chart(scores, 3)
    assert [dot.chosen for dot in drawn.dots] == [False, True, False]
    assert drawn.dots[1].y < drawn.dots[2].y < drawn.dots[0].y
    assert drawn.dots[0].x < drawn.dots[1].x < drawn.dots[2].x
    assert len(chart(scores[:1], 2).dots) == 1


def test_a_page_of_too_many_images_says_which_have_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: ImageIndex, folder: Path
) -> None:
    index.add([folder])
    monkeypatch.setattr(imgindex.looking.pages, "SIDES", ((3, 32), (5, 16)))
    index.write_page(index.outliers_page(index.outliers(n=12)), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("data:image/webp;base64,") == 5
    assert "the page has pictures of 5 images alone" in text
