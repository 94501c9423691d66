"""Render a page as one HTML file that needs nothing else: pictures, style and script are inside.

File names are never markup: Jinja escapes them, and the page's content security policy allows no other script.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from imgindex._version import VERSION
from imgindex.export.tables import printable
from imgindex.gallery import phrases
from imgindex.gallery.chart import chart
from imgindex.gallery.model import ClusterPage, MapView, Page
from imgindex.storage.paths import absolute

# The marks of clusters: colours that colour-blind people can distinguish, times shapes; see style.css and map.js.
COLOURS, SHAPES = 8, 4


@dataclass(frozen=True, slots=True)
class Picture:
    """A small picture as a WebP file, or the reason why there is none; href: the URL of the image's own file."""

    data: bytes = b""
    width: int = 0
    height: int = 0
    reason: str = ""
    href: str = ""


MISSING = Picture(reason="no picture was made")


@dataclass
class Gallery:
    """The pictures of one page by path; each is in the file once, and page.js copies it to its other places."""

    pictures: Mapping[str, Picture]
    _numbers: dict[str, int] = field(default_factory=dict)

    def get(self, path: str) -> Picture:
        return self.pictures.get(path, MISSING)

    def number(self, path: str) -> tuple[int, bool]:
        """Return the number of an image on the page, and whether this is its first place."""
        first = path not in self._numbers
        return self._numbers.setdefault(path, len(self._numbers)), first


def relative_url(path: str, out: str) -> str:
    """Return the URL by which the page `out` links to a file, whatever bytes the file's name has."""
    relative = os.path.relpath(os.path.abspath(path), os.path.dirname(absolute(out)))
    return quote(os.fsencode(relative), safe="/")


def render(page: Page, pictures: Mapping[str, Picture], small: Mapping[int, Picture] | None = None) -> bytes:
    """Return the page as HTML in UTF-8.

    pictures: by path, of the images on the page. small: by id, of further images in its lists and on its map.
    """
    script, style = _asset("page.js"), _asset("style.css")
    if isinstance(page, ClusterPage):
        script += _asset("lists.js") + _asset("map.js")
    text = (
        _environment()
        .get_template(page.template)
        .render(
            page=page,
            gallery=Gallery(pictures),
            script=Markup(script),
            style=Markup(style),
            policy=_policy(script, style),
            version=VERSION,
            list_data=_list_data(page, small or {}) if isinstance(page, ClusterPage) else None,
            map_data=_map_data(page.map) if isinstance(page, ClusterPage) and page.map else None,
            chart=chart(page.curve, page.chosen) if isinstance(page, ClusterPage) and page.curve else None,
        )
    )
    return text.encode("utf-8", "backslashreplace")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("imgindex.gallery"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        printable=printable,
        file_name=phrases.file_name,
        folder=phrases.folder,
        rank_among_pairs=phrases.rank_among_pairs,
        rank_among_images=phrases.rank_among_images,
        count=phrases.count,
        distance=phrases.distance,
        base64=lambda data: base64.b64encode(data).decode("ascii"),
        colour=lambda label: label % COLOURS,
        shape=lambda label: label // COLOURS % SHAPES,
    )
    return environment


@cache
def _asset(name: str) -> str:
    return resources.files("imgindex.gallery").joinpath("templates").joinpath(name).read_text(encoding="utf-8")


def _policy(script: str, style: str) -> str:
    """Return the content security policy, which allows this script, this style, and pictures inside the page."""
    sources = " ".join(
        f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}';"
        for kind, text in (("script", script), ("style", style))
    )
    return f"default-src 'none'; img-src data:; {sources} base-uri 'none'; form-action 'none'"


def _list_data(page: ClusterPage, small: Mapping[int, Picture]) -> Markup:
    """Return the small pictures by id, with their links, and the images that each cluster lists."""
    pictures = {
        id: [base64.b64encode(one.data).decode("ascii"), one.href, printable(one.reason)] for id, one in small.items()
    }
    lists = {
        view.label: [[one.id, printable(one.name), round(one.distance, 3)] for one in view.listed]
        for view in page.clusters
    }
    return _json({"pictures": pictures, "lists": lists})


def _map_data(view: MapView) -> Markup:
    data: dict[str, Any] = {
        "ids": list(view.ids),
        "paths": [printable(name) for name in view.names],
        "labels": list(view.labels),
        "xy": {name: [[round(x, 4), round(y, 4)] for x, y in _within_one(points)] for name, points in view.xy.items()},
    }
    return _json(data)


def _json(data: dict[str, Any]) -> Markup:
    text = json.dumps(data, separators=(",", ":"))
    # In a script element, these could end it, or begin a comment that hides its end.
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def _within_one(points: Any) -> list[tuple[float, float]]:
    """Return points (x, y) moved and scaled, by one factor, so that the longer extent is −1…1."""
    if not len(points):
        return []
    low = [min(point[axis] for point in points) for axis in (0, 1)]
    high = [max(point[axis] for point in points) for axis in (0, 1)]
    half = max(high[0] - low[0], high[1] - low[1]) / 2 or 1.0
    return [tuple((point[axis] - (low[axis] + high[axis]) / 2) / half for axis in (0, 1)) for point in points]
