"""The content of pages, contact sheets and previews, as plain data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from imgindex.gallery.phrases import count
from imgindex.results import Duplicate, KScore

Facts = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ImageCard:
    """One image on a page, with the text below it.

    path: absolute, where the picture is read from; "" for a mix of images, which has no picture. distance: Euclidean,
    to the image or centroid that the page compares it with. note: a further line. caption: the text on a sheet or in a
    terminal, the file's name if empty. name: the path as a reader sees it, `path` if empty.
    """

    path: str
    id: int = 0
    distance: float | None = None
    note: str = ""
    caption: str = ""
    name: str = ""

    @property
    def display_name(self) -> str:
        return self.name or self.path

    @property
    def display_caption(self) -> str:
        return self.caption or os.path.basename(self.display_name)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the images below it; a contact sheet or a preview is a sequence of these."""

    title: str
    cards: Sequence[ImageCard]


class Page(Protocol):
    """Any page: its title, its images in the order of importance, and its sections.

    note: a line beside the title. legend: what the numbers on it mean. empty: what it says where it has no images.
    """

    @property
    def title(self) -> str: ...
    @property
    def facts(self) -> Facts: ...
    @property
    def note(self) -> str: ...
    @property
    def legend(self) -> str: ...
    @property
    def empty(self) -> str: ...
    def cards(self) -> list[ImageCard]: ...
    def sections(self) -> list[Section]: ...


@dataclass(frozen=True, slots=True)
class QueryView:
    """A query image with its matches, nearest first; or the reason why it could not be compared."""

    query: ImageCard
    matches: Sequence[ImageCard]
    failure: str = ""


@dataclass(frozen=True, slots=True)
class MatchesPage:
    """The matches of one or several query images."""

    title: str
    facts: Facts
    queries: Sequence[QueryView]
    note: str = ""
    legend: str = ""
    empty: str = ""

    def sections(self) -> list[Section]:
        return [Section(one.query.display_name, [one.query, *one.matches]) for one in self.queries if not one.failure]

    def cards(self) -> list[ImageCard]:
        return [card for one in self.queries for card in (one.query, *one.matches)]


@dataclass(frozen=True, slots=True)
class OutlierView:
    """An outlier, the image nearest to it, and how many times as far that is as the median."""

    image: ImageCard
    nearest: ImageCard
    times: float


@dataclass(frozen=True, slots=True)
class OutliersPage:
    """The outliers of an index, the least alike first."""

    title: str
    facts: Facts
    outliers: Sequence[OutlierView]
    note: str = ""
    legend: str = ""
    empty: str = ""

    def sections(self) -> list[Section]:
        return [Section(self.title, [one.image for one in self.outliers])] if self.outliers else []

    def cards(self) -> list[ImageCard]:
        return [card for one in self.outliers for card in (one.image, one.nearest)]


@dataclass(frozen=True, slots=True)
class DuplicateView:
    """An image of a group of duplicates as a card, and what is known of it."""

    card: ImageCard
    image: Duplicate

    def facts(self) -> dict[str, Any]:
        """Return what its caption states, by the names of `Duplicate`."""
        names = ("how", "turned", "same_file", "distance", "width", "height", "size", "problem", "protected")
        return {name: getattr(self.image, name) for name in names}


@dataclass(frozen=True, slots=True)
class PageGroup:
    """Images that duplicate each other, the one to keep first, and the reason why that one is kept."""

    images: Sequence[DuplicateView]
    reason: str


@dataclass(frozen=True, slots=True)
class DuplicatesPage:
    """The groups of duplicates."""

    title: str
    facts: Facts
    groups: Sequence[PageGroup]
    note: str = ""
    legend: str = ""
    empty: str = ""

    def sections(self) -> list[Section]:
        return [
            Section(f"group {number}", [one.card for one in group.images])
            for number, group in enumerate(self.groups, 1)
        ]

    def cards(self) -> list[ImageCard]:
        return [one.card for group in self.groups for one in group.images]


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An image in the list of all images of its cluster; name: the path as a reader sees it."""

    id: int
    path: str
    name: str
    distance: float


@dataclass(frozen=True, slots=True)
class ClusterView:
    """One cluster: the image in its middle, those nearest to its centroid, farthest from it, and nearest to another.

    medoid: the image with the least mean distance to the others. listed: all images, or as many as the page can show,
    the nearest to the centroid first.
    """

    label: int
    name: str | None
    size: int
    medoid: ImageCard
    nearest: Sequence[ImageCard]
    farthest: Sequence[ImageCard]
    borderline: Sequence[ImageCard]
    listed: Sequence[ListedImage] = ()

    @property
    def title(self) -> str:
        return f"{self.name} (cluster {self.label})" if self.name else f"cluster {self.label}"


@dataclass(frozen=True, slots=True)
class MapView:
    """Images on a plane: paths (absolute), names (the paths as a reader sees them), labels, and (x, y) by method.

    of: how many images there are, of which these are an even sample.
    """

    ids: Sequence[int]
    paths: Sequence[str]
    names: Sequence[str]
    labels: Sequence[int]
    xy: dict[str, Sequence[tuple[float, float]]]
    of: int


@dataclass(frozen=True, slots=True)
class ClusterPage:
    """A clustering: how it was made, its clusters by falling size, a map, and the score of each k that was tried.

    command: the command line whose page lists every image.
    """

    title: str
    facts: Facts
    clusters: Sequence[ClusterView]
    map: MapView | None = None
    curve: Sequence[KScore] = field(default=())
    chosen: int = 0
    note: str = ""
    legend: str = ""
    empty: str = ""
    command: str = ""

    def sections(self) -> list[Section]:
        return [
            Section(
                f"{one.title}: {count(one.size, 'image')}",
                list({card.path: card for card in (one.medoid, *one.nearest)}.values()),
            )
            for one in self.clusters
        ]

    def cards(self) -> list[ImageCard]:
        medoids = [one.medoid for one in self.clusters]
        return medoids + [card for one in self.clusters for card in (*one.nearest, *one.farthest, *one.borderline)]
