"""Pages as text: their pictures, hostile names, and links to the files."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pytest

from imgindex.gallery.html import Picture, relative_url, render
from imgindex.gallery.model import (
    ClusterPage,
    ClusterView,
    DuplicatesPage,
    ImageCard,
    ListedImage,
    MapView,
    MatchesPage,
    PageGroup,
    QueryView,
)

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
OURS |= {"details", "summary", "p", "script", "section", "small", "span", "strong", "style", "svg", "title", "wbr"}


class Tags(HTMLParser):
    """The names of all elements and attributes that a parser finds on a page."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}


def page_of(names: list[str]) -> ClusterPage:
    cards = [ImageCard(name, number, 0.5, 0.9, note=name) for number, name in enumerate(names, 1)]
    listed = [ListedImage(card.id or 0, card.path, card.path, 0.5) for card in cards]
    view = ClusterView(0, names[0], len(names), 0.5, cards[0], cards, cards[::-1], cards, listed)
    plane = MapView(
        list(range(1, len(names) + 1)),
        names,
        names,
        [0] * len(names),
        {"pca": [(float(n), 0.0) for n in range(len(names))]},
        9,
    )
    return ClusterPage(names[0], [(names[1], names[2])], [view], plane)


def test_hostile_names_are_text_everywhere() -> None:
    pictures = {name: Picture(b"RIFF", 1, 1) for name in HOSTILE[:4]}
    pictures |= {name: Picture(reason=name) for name in HOSTILE[4:]}
    text = render(page_of(HOSTILE), pictures, {1: Picture(b"x", 1, 1)}).decode()
    assert len(re.findall(r"<script", text)) == 3  # ours, and the data of the map and of the lists
    assert len(re.findall(r"</script", text)) == 3
    assert len(re.findall("<style", text)) == 1
    tags = Tags()
    tags.feed(text)
    assert tags.names <= OURS
    assert not [name for name in tags.attributes if name.startswith("on")]
    assert "{{ 7 * 7 }}" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    for name in ("map-data", "list-data"):
        data = text.split(f'id="{name}">')[1].split("</script>")[0]
        assert not set("<>&") & set(data)


def test_a_picture_in_several_places_is_in_the_file_once() -> None:
    data = os.urandom(3000)
    text = render(page_of(["a.png", "b.png", "c.png"]), {"a.png": Picture(data, 10, 10)}).decode()
    assert text.count("data:image/webp;base64,") - text.count("`data:image/webp;base64,") == 1
    assert text.count('data-copy="p0"') == 3
    assert text.count("no picture was made") >= 2


def test_a_page_refers_to_nothing_outside_of_it() -> None:
    text = render(page_of(["a.png", "b.png", "c.png"]), {}).decode()
    assert re.findall(r"""(?:src|href)=["']?(?!data:|#|\{)([^"'\s>]+)""", text) == []
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert "default-src &#39;none&#39;" in text


def test_empty_pages_say_so() -> None:
    assert "No two images duplicate each other" in render(DuplicatesPage("none", [], []), {}).decode()
    empty = MatchesPage(
        "t", [], [QueryView(ImageCard("q.png"), []), QueryView(ImageCard("r.png"), [], "file is empty")]
    )
    text = render(empty, {}).decode()
    assert "No image of the index fulfils the conditions" in text
    assert "could not be compared: file is empty" in text
    assert "<h1>none</h1>" in render(ClusterPage("none", [], []), {}).decode()


def test_a_group_of_duplicates_names_the_image_to_keep_and_the_reason() -> None:
    group = PageGroup(ImageCard("big.png"), "largest: 400 × 300", [ImageCard("small.png", 2, 0.0, 1.0, "same bytes")])
    text = render(DuplicatesPage("1 group", [], [group]), {}).decode()
    assert text.index("largest: 400 × 300") < text.index("same bytes")
    assert "2 images" in text


@pytest.mark.parametrize(
    "name",
    [b"plain.png", b"with space.png", b"a#b?c%d&e.png", b"x:y.png", b"\xff\n.png", "é片.png".encode(), b"'\".png"],
)
def test_a_url_leads_from_the_page_to_the_file_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    (tmp_path / "reports").mkdir()
    monkeypatch.chdir(tmp_path)
    url = relative_url(os.fsdecode(b"photos/" + name), "reports/page.html")
    assert url.isascii()
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
    assert unquote_to_bytes(url) == b"../photos/" + name
    assert unquote_to_bytes(relative_url(os.fsdecode(name), "page.html")) == name
