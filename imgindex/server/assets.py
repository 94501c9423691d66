"""The files of the page, read from the package once: no path of a request is ever opened."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

PAGE, STYLE = "index.html", "style.css"
# By package and folder. Pages that are files have the first of them too.
SHARED = ("imgindex.gallery", "assets", ("dom.js", "cards.js", "large.js", "plane.js"))
OWN_SCRIPTS: tuple[str, ...] = ("app.js", "api.js", "pictures.js", "grid.js", "command_lines.js", "selection.js")
OWN_SCRIPTS += ("images.js", "clusters.js", "duplicates.js", "odd.js", "map.js")
OWN = ("imgindex.server", "pages", OWN_SCRIPTS)


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
    found = {
        name: _asset(_read(package, folder, name), "text/javascript; charset=utf-8")
        for package, folder, names in (SHARED, OWN)
        for name in names
    }
    style = b"".join(_read(package, folder, STYLE) for package, folder, _ in (SHARED, OWN))
    found[STYLE] = _asset(style, "text/css; charset=utf-8")
    found[PAGE] = _asset(_read(*OWN[:2], PAGE), "text/html; charset=utf-8")
    return found


ASSETS = _load()
