"""Pages as text: their pictures, hostile names, and links to the files."""

from __future__ import annotations

import base64
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from page_files import page_data

from imgindex.gallery import html
from imgindex.gallery.html import MODULES, Picture, bundle, relative_url, render
from imgindex.gallery.model import (
    ClusterPage,
    ClusterView,
    ImageCard,
    ListedImage,
    MapView,
    MatchesPage,
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


OURS = {"a", "body", "dl", "div", "footer", "h1", "head", "header", "html", "input", "label", "link", "main", "meta"}
OURS |= {"noscript", "output", "p", "script", "span", "style", "title"}


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
    cards = [ImageCard(name, number, 0.5, note=name) for number, name in enumerate(names, 1)]
    listed = [ListedImage(card.id or 0, card.path, card.path, 0.5) for card in cards]
    view = ClusterView(0, names[0], len(names), cards[0], cards, cards[::-1], cards, listed)
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
    pictures = {name: Picture(b"RIFF", 1) for name in HOSTILE[:4]}
    pictures |= {name: Picture(reason=name) for name in HOSTILE[4:]}
    text = render(page_of(HOSTILE), pictures).decode()
    assert len(re.findall(r"<script", text)) == 2  # ours, and its data
    assert len(re.findall(r"</script", text)) == 2
    assert len(re.findall("<style", text)) == 1
    tags = Tags()
    tags.feed(text)
    assert tags.names <= OURS
    assert not [name for name in tags.attributes if name.startswith("on")]
    assert "{{ 7 * 7 }}" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert not set("<>&") & set(text.split('id="data">')[1].split("</script>")[0])
    assert len(page_data(text)["items"]) == len(HOSTILE)


def test_a_title_that_looks_like_a_place_of_the_page_is_a_title() -> None:
    text = render(MatchesPage("{{script}} {{data}}", [], []), {}).decode()
    assert text.count("<h1>{{script}} {{data}}</h1>") == 1


def test_a_picture_in_several_places_is_in_the_file_once() -> None:
    data = os.urandom(3000)
    text = render(page_of(["a.png", "b.png", "c.png"]), {"a.png": Picture(data, 10)}).decode()
    assert text.count(base64.b64encode(data).decode()) == 1
    assert [item[0] for item in page_data(text)["items"]] == [0, -1, -1]


def test_the_script_is_the_modules_of_the_server_and_of_files_without_their_imports() -> None:
    script = bundle()
    assert not re.findall(r"^(import|export)\b", script, re.MULTILINE)
    assert "</" not in script
    names = re.findall(r"^(?:const|let|function|async function|class) (\w+)", script, re.MULTILINE)
    assert len(names) == len(set(names))
    assert "class Plane {" in script
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\bfetch\(", script)
    for number, (folder, name) in enumerate(MODULES):
        imported = re.findall(r'from "\./([^"]+)"', html._text(folder, name))
        assert set(imported) <= {other for _, other in MODULES[:number]}, name


def test_a_page_refers_to_nothing_outside_of_it() -> None:
    text = render(page_of(["a.png", "b.png", "c.png"]), {}).decode()
    assert re.findall(r"""(?:src|href)=["']?(?!data:|#|\{)([^"'\s>]+)""", text) == []
    assert re.findall(r"http://(?!www\.w3\.org/2000/svg)", text) == []
    assert "https://" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_a_page_has_what_its_script_shows() -> None:
    failed = QueryView(ImageCard("r.png"), [], "file is empty")
    data = page_data(render(MatchesPage("t", [("index", "x")], [failed], "note", "legend", "empty"), {}).decode())
    assert data["kind"] == "matches"
    assert [data[name] for name in ("note", "legend", "empty")] == ["note", "legend", "empty"]
    assert data["facts"] == [["index", "x"]]
    assert data["queries"][0]["failure"] == "file is empty"
    assert "<h1>none</h1>" in render(ClusterPage("none", [], []), {}).decode()


def test_points_of_a_map_are_whole_numbers_from_the_upper_left_corner() -> None:
    assert html._whole([(0.0, 0.0), (2.0, 1.0), (1.0, -1.0)]) == {"x": [0, 65535, 32768], "y": [32768, 0, 65535]}
    assert html._whole([(3.0, 3.0)]) == {"x": [0], "y": [0]}
    assert html._whole([]) == {"x": [], "y": []}


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
