"""Finds the images and failures that a caller's paths name: those at a path or below it, through links too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from imgindex.errors import PathNotFound
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.paths import as_on_disk, nfc, parent, real_path


@dataclass(frozen=True, slots=True)
class Named:
    """The ids of present images, the paths of failures, and the given paths that name neither."""

    images: list[int]
    failures: list[str]
    unknown: list[str]


def find_named(catalogue: Catalogue, paths: Sequence[str], *, failures: bool = False) -> Named:
    """Return what lies at these absolute paths or below them; failures only if they are asked for.

    A path through links names the images of the files that it leads to. A path that names nothing as it is written may
    differ from the stored ones in how an accent is written. Raises PathNotFound where it then names several folders or
    files.
    """
    known_failures = [failure.path for failure in catalogue.ledger.failures()] if failures else []
    images: set[int] = set()
    failed: list[str] = []

    def look(search: _Search | _AccentSearch) -> None:
        images.update(id for id, *forms in catalogue.each_place(search.places) if search.covers(*forms))
        failed.extend(path for path in known_failures if search.covers(path, real_path(path)))

    def places(given: dict[str, str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path, form in given.items():
            for place in dict.fromkeys(map(catalogue.paths.canonical, (form, real_path(form)))):
                found.setdefault(place.rstrip("/"), []).append(path)
        return found

    search = _Search(places({path: path for path in paths}))
    look(search)
    # What the index has exactly so is meant, then what the disk has, then what the index has in another form.
    unknown = [path for path in paths if path not in search.covered and not path.isascii()]
    if other_forms := {path: form for path in unknown if (form := as_on_disk(path)) != path}:
        on_disk = _Search(places(other_forms))
        look(on_disk)
        search.covered |= on_disk.covered
    if unknown := [path for path in unknown if path not in search.covered]:
        accents = _AccentSearch(places({path: path for path in unknown}))
        look(accents)
        search.covered |= accents.checked(unknown)
    return Named(sorted(images), failed, [path for path in paths if path not in search.covered])


class _Search:
    """Tests paths for lying at or below places (without a slash at the end → the given paths); `covered`: those hit."""

    def __init__(self, places: dict[str, list[str]]) -> None:
        self.places = places
        self.covered: set[str] = set()

    def covers(self, *paths: str | None) -> bool:
        hits = [given for path in paths if path is not None for given in self._hits(path)]
        self.covered.update(hits)
        return bool(hits)

    def _hits(self, path: str) -> Iterator[str]:
        while True:
            yield from self.places.get(path, ())
            if not path or (folder := parent(path)) is None:
                return
            path = folder


class _AccentSearch:
    """Tests as `_Search`, but by NFC forms; remembers by which forms each given path was hit."""

    places = None  # NFC forms are not what the catalogue has: all images are looked at

    def __init__(self, places: dict[str, list[str]]) -> None:
        self._places = {nfc(place): given for place, given in places.items()}
        self._forms: dict[str, set[str]] = {}

    def covers(self, *paths: str | None) -> bool:
        hit = False
        for path in paths:
            parts = [] if path is None or path.isascii() else path.split("/")
            for end in range(1, len(parts) + 1):
                place = "/".join(parts[:end])
                for given in self._places.get(nfc(place), ()):
                    self._forms.setdefault(given, set()).add(place)
                    hit = True
        return hit

    def checked(self, given: Iterable[str]) -> set[str]:
        """Return the given paths that were hit. Raises PathNotFound for one that was hit by several forms."""
        for path in given:
            forms = sorted(self._forms.get(path, ()))
            if len(forms) > 1:
                raise PathNotFound(
                    f"the index has nothing at {path!a}, but {' and '.join(map(ascii, forms))}, which differ in how an "
                    "accent is written",
                    hint="give one of these",
                )
        return set(self._forms)
