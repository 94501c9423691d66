"""Write a page as one HTML file that needs nothing else: pictures, style and script are inside.

The script draws the page from data, with the modules by which the server's page shows images too (`assets/`): here they
are put one after the other into one script. Names are set as text, never as markup, and the page's content security
policy allows no other script.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from html import escape
from importlib import resources
from typing import Any
from urllib.parse import quote

from imgindex._version import VERSION
from imgindex.export.tables import printable
from imgindex.gallery.chart import Chart, chart
from imgindex.gallery.model import (
    ClusterPage,
    DuplicatesPage,
    ImageCard,
    MapView,
    MatchesPage,
    OutliersPage,
    Page,
)
from imgindex.storage.paths import absolute
from imgindex.types import Image

# Modules, in the order in which each finds those that it imports.
MODULES = (
    ("assets", "dom.js"),
    ("templates", "pictures.js"),
    ("assets", "cards.js"),
    ("assets", "large.js"),
    ("assets", "plane.js"),
    ("templates", "file.js"),
)
STYLES = (("assets", "style.css"), ("templates", "file.css"))
IMPORT = re.compile(r'^import \{[^}]*\} from "\./[a-z]+\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export ", re.MULTILINE)
# Coordinates on a map are whole numbers up to this, as those that the server sends.
FARTHEST = 65535


@dataclass(frozen=True, slots=True)
class Picture:
    """A small picture as a WebP file, or the reason why there is none.

    side: its longer side in pixels. href: the URL of the image's own file.
    """

    data: bytes = b""
    side: int = 0
    reason: str = ""
    href: str = ""


@dataclass(slots=True)
class _Items:
    """The images of a page, each once, with their pictures; others refer to them by their places in the list."""

    pictures: Mapping[str, Picture]
    images: Mapping[str, Image]
    rows: list[list[Any]] = field(default_factory=list)
    drawn: list[list[Any]] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    def place(self, path: str, name: str) -> int:
        """Return the place of an image in the list, and add it where it is not there yet; name: its path as shown."""
        if path not in self.places:
            self.places[path] = len(self.rows)
            self.rows.append(self._row(path, name))
        return self.places[path]

    def card(self, card: ImageCard) -> int:
        return self.place(card.path, card.display_name)

    def _row(self, path: str, name: str) -> list[Any]:
        picture, image, number = self.pictures.get(path), self.images.get(path), -1
        if picture is not None:
            number = len(self.drawn)
            self.drawn.append([base64.b64encode(picture.data).decode("ascii"), printable(picture.reason), picture.side])
        size = [image.width, image.height, image.size] if image is not None else [0, 0, 0]
        return [number, printable(name), *size, picture.href if picture is not None else ""]


def relative_url(path: str, out: str) -> str:
    """Return the URL by which the page `out` links to a file, whatever bytes the file's name has."""
    relative = os.path.relpath(os.path.abspath(path), os.path.dirname(absolute(out)))
    return quote(os.fsencode(relative), safe="/")


def render(page: Page, pictures: Mapping[str, Picture], images: Mapping[str, Image] | None = None) -> bytes:
    """Return the page as HTML in UTF-8.

    pictures: by path, of the images on the page, in its lists and on its map. images: what the index knows of them.
    """
    script, style = bundle(), "".join(_text(*place) for place in STYLES)
    values = {
        "title": escape(printable(page.title)),
        "style": style,
        "script": script,
        "policy": _policy(script, style),
        "version": VERSION,
        "data": _json(_data(page, _Items(pictures, images or {}))),
    }
    # Values are not looked at again: a name may contain what stands for another value.
    text = re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], _text("templates", "page.html"))
    return text.encode("utf-8", "backslashreplace")


@cache
def bundle() -> str:
    """Return the modules as one script: without their imports, since all their names are in one place."""
    return "".join(EXPORT.sub("", IMPORT.sub("", _text(*place))) for place in MODULES)


@cache
def _text(folder: str, name: str) -> str:
    return resources.files("imgindex.gallery").joinpath(folder).joinpath(name).read_text(encoding="utf-8")


def _policy(script: str, style: str) -> str:
    """Return the content security policy: this script, this style, pictures inside the page and in files beside it."""
    sources = " ".join(
        f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}';"
        for kind, text in (("script", script), ("style", style))
    )
    return f"default-src 'none'; img-src data: file:; {sources} base-uri 'none'; form-action 'none'"


def _json(data: dict[str, Any]) -> str:
    text = json.dumps(data, separators=(",", ":"))
    # In a script element, these could end it, or begin a comment that hides its end.
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _data(page: Page, items: _Items) -> dict[str, Any]:
    kinds = {MatchesPage: _matches, OutliersPage: _outliers, DuplicatesPage: _duplicates, ClusterPage: _clusters}
    kind, content = kinds[type(page)](page, items)  # type: ignore[operator]
    facts = [[printable(name), printable(value)] for name, value in page.facts]
    texts = {"note": page.note, "legend": page.legend, "empty": page.empty}
    shown = {key: printable(text) for key, text in texts.items()}
    return {"kind": kind, "facts": facts, **shown, **content, "items": items.rows, "pictures": items.drawn}


def _matches(page: MatchesPage, items: _Items) -> tuple[str, dict[str, Any]]:
    queries = [
        {
            # A mix of images has no picture of its own.
            "query": items.card(one.query) if one.query.path else None,
            "name": printable(one.query.display_name),
            "failure": printable(one.failure),
            "matches": [[items.card(card), round(card.distance or 0, 4)] for card in one.matches],
        }
        for one in page.queries
    ]
    return "matches", {"queries": queries}


def _outliers(page: OutliersPage, items: _Items) -> tuple[str, dict[str, Any]]:
    outliers = [
        {
            "image": items.card(one.image),
            "nearest": items.card(one.nearest),
            "times": one.times,
            "reason": printable(one.image.note),
        }
        for one in page.outliers
    ]
    return "outliers", {"outliers": outliers}


def _duplicates(page: DuplicatesPage, items: _Items) -> tuple[str, dict[str, Any]]:
    def shown(card: ImageCard, how: dict[str, Any]) -> dict[str, Any]:
        texts = {name: printable(value) if isinstance(value, str) else value for name, value in how.items()}
        return {"item": items.card(card), **texts}

    groups = [
        {"why": printable(group.reason), "images": [shown(one.card, one.facts()) for one in group.images]}
        for group in page.groups
    ]
    return "duplicates", {"groups": groups}


def _clusters(page: ClusterPage, items: _Items) -> tuple[str, dict[str, Any]]:
    def distances(cards: Sequence[ImageCard]) -> list[list[Any]]:
        return [[items.card(card), round(card.distance or 0, 3)] for card in cards]

    clusters = [
        {
            "label": one.label,
            "name": printable(one.name or ""),
            "size": one.size,
            "sample": list(dict.fromkeys(items.card(card) for card in (one.medoid, *one.nearest))),
            "listed": [[items.place(image.path, image.name), round(image.distance, 3)] for image in one.listed],
            "borderline": [[items.card(card), printable(card.note)] for card in one.borderline],
            "farthest": distances(one.farthest),
        }
        for one in page.clusters
    ]
    content: dict[str, Any] = {"clusters": clusters, "command": page.command}
    if page.map is not None:
        content["map"] = _map(page.map, items)
    if page.curve:
        content["curve"] = _curve(chart(page.curve, page.chosen), page.chosen)
    return "clusters", content


def _map(view: MapView, items: _Items) -> dict[str, Any]:
    return {
        "ids": [items.place(path, name) for path, name in zip(view.paths, view.names, strict=True)],
        "group": list(view.labels),
        "of": view.of,
        "methods": {name: _whole(points) for name, points in view.xy.items()},
    }


def _whole(points: Sequence[tuple[float, float]]) -> dict[str, list[int]]:
    """Return points as whole numbers from 0, scaled by one factor; y grows downwards, as on a screen."""
    low = [min((point[axis] for point in points), default=0.0) for axis in (0, 1)]
    high = [max((point[axis] for point in points), default=0.0) for axis in (0, 1)]
    scale = FARTHEST / (max(high[0] - low[0], high[1] - low[1]) or 1.0)
    return {
        "x": [round((x - low[0]) * scale) for x, _ in points],
        "y": [round((high[1] - y) * scale) for _, y in points],
    }


def _curve(drawn: Chart, chosen: int) -> dict[str, Any]:
    points = [
        {
            "x": point.x,
            "y": point.y,
            "k": point.score.k,
            "silhouette": point.score.silhouette,
            "stability": point.score.stability,
            "is_chosen": point.chosen,
            "is_ticked": point.ticked,
        }
        for point in drawn.points
    ]
    return {
        **{key: value for key, value in asdict(drawn).items() if key != "points"},
        "points": points,
        "chosen": chosen,
    }
