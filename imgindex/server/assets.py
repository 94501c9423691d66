"""The files of the page, read from the package once: no path of a request is ever opened."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

PAGE = "index.html"
SCRIPTS: tuple[str, ...] = ("app.js", "api.js", "dom.js", "grid.js", "large.js", "selection.js")
SCRIPTS += ("images.js", "clusters.js", "duplicates.js", "odd.js", "map.js")
STYLE = "style.css"
# The style of pages that are files comes first: colours, buttons and pictures are the same in both.
SHARED_STYLE = ("imgindex.gallery", "templates", "style.css")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page; tag: its entity tag."""

    data: bytes
    media_type: str
    tag: str


def _read(*place: str) -> bytes:
    package, *names = place
    return resources.files(package).joinpath(*names).read_bytes()


def _asset(data: bytes, media_type: str) -> Asset:
    return Asset(data, media_type, f'"{hashlib.sha256(data).hexdigest()[:16]}"')


def _load() -> dict[str, Asset]:
    pages = ("imgindex.server", "pages")
    found = {name: _asset(_read(*pages, name), "text/javascript; charset=utf-8") for name in SCRIPTS}
    found[STYLE] = _asset(_read(*SHARED_STYLE) + _read(*pages, STYLE), "text/css; charset=utf-8")
    found[PAGE] = _asset(_read(*pages, PAGE), "text/html; charset=utf-8")
    return found


ASSETS = _load()
