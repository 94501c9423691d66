"""From a page as plain data to one HTML file that needs nothing else: pictures, style and script are inside.

What names hold is never markup: Jinja escapes all of it, and the page's own policy lets no other script run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from imgindex._version import VERSION
from imgindex.reports.formats import printable
from imgindex.reports.pages import words
from imgindex.reports.pages.chart import chart
from imgindex.reports.pages.model import ClusterPage, MapView, Page

# Colours that colour-blind people can tell apart, times shapes: see style.css and map.js.
COLOURS, SHAPES = 8, 4


@dataclass(frozen=True, slots=True)
class Picture:
    """A small picture as a WebP file, or the reason why there is none; href: where the page finds the image itself."""

    data: bytes = b""
    width: int = 0
    height: int = 0
    reason: str = ""
    href: str = ""


NONE = Picture(reason="not drawn")


@dataclass
class Gallery:
    """The pictures of one page, each inside it once: where it stands again, the first one is shown."""

    pictures: Mapping[str, Picture]
    _numbers: dict[str, int] = field(default_factory=dict)

    def get(self, path: str) -> Picture:
        return self.pictures.get(path, NONE)

    def number(self, path: str) -> tuple[int, bool]:
        """Return the number of an image within the page, and whether it stands there for the first time."""
        first = path not in self._numbers
        return self._numbers.setdefault(path, len(self._numbers)), first


def render(page: Page, pictures: Mapping[str, Picture], small: Mapping[int, bytes] | None = None) -> bytes:
    """Return the page as HTML in UTF-8.

    pictures: by path, of the images that the page shows. small: WebP files by id, for the images on a map.
    """
    script, style = _asset("page.js"), _asset("style.css")
    if isinstance(page, ClusterPage):
        script += _asset("map.js")
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
            map_data=_map_data(page.map, small or {}) if isinstance(page, ClusterPage) and page.map else None,
            chart=chart(page.curve, page.chosen) if isinstance(page, ClusterPage) and page.curve else None,
        )
    )
    return text.encode("utf-8", "backslashreplace")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("imgindex.reports.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        printable=printable,
        file_name=words.file_name,
        folder=words.folder,
        pairs=words.pairs,
        images=words.images,
        count=words.count,
        distance=words.distance,
        base64=lambda data: base64.b64encode(data).decode("ascii"),
        colour=lambda label: label % COLOURS,
        shape=lambda label: label // COLOURS % SHAPES,
    )
    return environment


@cache
def _asset(name: str) -> str:
    return resources.files("imgindex.reports.pages").joinpath("templates").joinpath(name).read_text(encoding="utf-8")


def _policy(script: str, style: str) -> str:
    """What the browser may do for this page: run this script, follow this style, show pictures that are inside."""
    sources = " ".join(
        f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}';"
        for kind, text in (("script", script), ("style", style))
    )
    return f"default-src 'none'; img-src data:; {sources} base-uri 'none'; form-action 'none'"


def _map_data(view: MapView, small: Mapping[int, bytes]) -> Markup:
    data: dict[str, Any] = {
        "ids": list(view.ids),
        "paths": [printable(path) for path in view.paths],
        "labels": list(view.labels),
        "xy": {name: [[round(x, 4), round(y, 4)] for x, y in _within_one(points)] for name, points in view.xy.items()},
        "small": {
            place: base64.b64encode(small[id]).decode("ascii") for place, id in enumerate(view.ids) if small.get(id)
        },
    }
    text = json.dumps(data, separators=(",", ":"))
    # Inside a script element these would end it, or begin a comment that hides its end.
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def _within_one(points: Any) -> list[tuple[float, float]]:
    """Move and scale points, both ways alike, until they fill −1…1."""
    if not len(points):
        return []
    low = [min(point[axis] for point in points) for axis in (0, 1)]
    high = [max(point[axis] for point in points) for axis in (0, 1)]
    half = max(high[0] - low[0], high[1] - low[1]) / 2 or 1.0
    return [tuple((point[axis] - (low[axis] + high[axis]) / 2) / half for axis in (0, 1)) for point in points]
