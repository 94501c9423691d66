"""Which files belong to an image file, and go where it goes: XMP, edits, the film of a Live Photo, Google's JSON."""

from __future__ import annotations

import os
import re
from collections import defaultdict

from imgindex.decoding.plugins import RAW_ENDINGS
from imgindex.sources.selection import IMAGE_SUFFIXES

# A Live Photo is one of these and a film.
WITH_FILM = frozenset({".heic", ".heif", ".hif", ".jpg", ".jpeg"})
# Google Takeout cuts the name of a JSON file, without its ending, to so many characters.
TAKEOUT_NAME = ".supplemental-metadata"
TAKEOUT_LENGTH = 46
NUMBERED = re.compile(r"(.*)(\(\d+\))")
IMAGES = IMAGE_SUFFIXES | RAW_ENDINGS


def is_sidecar(name: str, image: str) -> bool:
    """Return whether a file belongs to an image file of the same folder, by its name.

    >>> [is_sidecar(name, "a.jpg") for name in ("a.jpg.xmp", "a.jpg.supplemental-me.json", "b.mov")]
    [True, True, False]
    """
    name, image = name.lower(), image.lower()
    stem, ending = os.path.splitext(image)
    if name in {f"{stem}.xmp", f"{image}.xmp", f"{stem}.aae"}:
        return True
    if name == f"{stem}.mov":
        return ending in WITH_FILM
    return name.endswith(".json") and _is_takeout(name[: -len(".json")], stem, ending)


def _is_takeout(base: str, stem: str, ending: str) -> bool:
    """Return whether a JSON file is Google's: a.jpg, a.jpg.supplemental-metadata, or cut; a.jpg(1) for a(1).jpg."""
    of_json, of_image = NUMBERED.fullmatch(base), NUMBERED.fullmatch(stem)
    if of_json and of_image and of_json[2] == of_image[2]:
        base, stem = of_json[1], of_image[1]
    elif of_json and of_json[1].endswith((ending, TAKEOUT_NAME)):
        return False
    image = stem + ending
    return (image + TAKEOUT_NAME).startswith(base) and len(base) >= min(len(image), TAKEOUT_LENGTH)


class Folder:
    """The names in one folder, with what belongs together."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._images: dict[str, set[str]] = defaultdict(set)
        self._others: dict[str, set[str]] = defaultdict(set)
        self._jsons: set[str] = set()
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    self._add(entry.name)

    def _add(self, name: str) -> None:
        lower = name.lower()
        if os.path.splitext(lower)[1] in IMAGES:
            self._images[_stem(name)].add(name)
        elif lower.endswith(".json"):
            self._jsons.add(name)
        else:
            self._others[lower].add(name)

    def sidecars(self, image: str) -> list[str]:
        """Return the sidecars of an image that no other image in the folder needs."""
        stem = _stem(image)
        lower = (f"{stem}.xmp", f"{image.lower()}.xmp", f"{stem}.aae", f"{stem}.mov")
        names = {name for one in lower for name in self._others.get(one, ()) if is_sidecar(name, image)}
        names |= {name for name in self._jsons if is_sidecar(name, image)}
        return sorted(name for name in names if not self._needed_by_others(name, image))

    def _needed_by_others(self, sidecar: str, image: str) -> bool:
        # A JSON file whose name was cut may belong to an image with another stem.
        images = set().union(*self._images.values()) if sidecar in self._jsons else self._images[_stem(image)]
        return any(is_sidecar(sidecar, other) for other in images if other != image)

    def remove(self, name: str) -> None:
        """Take a name out of the folder."""
        self._images[_stem(name)].discard(name)
        self._jsons.discard(name)
        self._others[name.lower()].discard(name)


def _stem(name: str) -> str:
    return os.path.splitext(name.lower())[0]
