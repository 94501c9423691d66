"""What pages, contact sheets and previews show, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from imgindex.answers.clusterings import KScore

Facts = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Shown:
    """One image on a page, and what is said of it.

    distance: Euclidean, to what the page compares it with. farther: share 0…1 of pairs in this index that lie farther
    apart than that. note: a line of its own. caption: what a sheet or a terminal says below it, its name if empty.
    """

    path: str
    id: int = 0
    distance: float | None = None
    farther: float | None = None
    note: str = ""
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the images below it: what a contact sheet and a terminal show of any page."""

    title: str
    shown: Sequence[Shown]


class Page(Protocol):
    """Any page: its template's name, what its browser tab says, and its images as sections."""

    @property
    def template(self) -> str: ...
    @property
    def title(self) -> str: ...
    def sections(self) -> list[Section]: ...


@dataclass(frozen=True, slots=True)
class QueryView:
    """An image that was asked about, with its matches, nearest first; or the reason why it has none."""

    query: Shown
    matches: Sequence[Shown]
    failure: str = ""


@dataclass(frozen=True, slots=True)
class MatchesPage:
    """What `similar` found."""

    title: str
    facts: Facts
    queries: Sequence[QueryView]
    template: str = "matches.html"

    def sections(self) -> list[Section]:
        return [Section(one.query.path, [one.query, *one.matches]) for one in self.queries if not one.failure]


@dataclass(frozen=True, slots=True)
class OutlierView:
    """An image that is little like any other, how many times as far as usual, and what is nearest to it."""

    image: Shown
    nearest: Shown
    times: float


@dataclass(frozen=True, slots=True)
class OutliersPage:
    """What `outliers` found, the least alike first."""

    title: str
    facts: Facts
    outliers: Sequence[OutlierView]
    template: str = "outliers.html"

    def sections(self) -> list[Section]:
        return [Section(self.title, [one.image for one in self.outliers])] if self.outliers else []


@dataclass(frozen=True, slots=True)
class PageGroup:
    """Images that duplicate each other: the one to keep and why, and the others, `note` saying what each is to it."""

    kept: Shown
    reason: str
    others: Sequence[Shown]
    title: str = ""


@dataclass(frozen=True, slots=True)
class DuplicatesPage:
    """What `duplicates` found, group by group."""

    title: str
    facts: Facts
    groups: Sequence[PageGroup]
    template: str = "duplicates.html"

    def sections(self) -> list[Section]:
        return [
            Section(group.title or f"group {number}", [group.kept, *group.others])
            for number, group in enumerate(self.groups, 1)
        ]


@dataclass(frozen=True, slots=True)
class ClusterView:
    """One cluster: the image in its middle, those nearest to its centroid, farthest from it, and nearest to another.

    medoid: the image with the least mean distance to the others. spread: mean distance to the centroid.
    """

    label: int
    name: str | None
    size: int
    spread: float
    medoid: Shown
    nearest: Sequence[Shown]
    farthest: Sequence[Shown]
    borderline: Sequence[Shown]

    @property
    def title(self) -> str:
        return f"{self.name} (cluster {self.label})" if self.name else f"cluster {self.label}"


@dataclass(frozen=True, slots=True)
class MapView:
    """Images on a plane, and the label of each; coordinates by the name of the method, as lists of (x, y).

    of: how many images the index has, of which these are evenly taken.
    """

    ids: Sequence[int]
    paths: Sequence[str]
    labels: Sequence[int]
    xy: dict[str, Sequence[tuple[float, float]]]
    of: int


@dataclass(frozen=True, slots=True)
class ClusterPage:
    """What `cluster` made: its receipt as facts, its clusters by falling size, a map, and how well each k fits."""

    title: str
    facts: Facts
    clusters: Sequence[ClusterView]
    map: MapView | None = None
    curve: Sequence[KScore] = field(default=())
    chosen: int = 0
    template: str = "clusters.html"

    def sections(self) -> list[Section]:
        found = []
        for one in self.clusters:
            first = {shown.path: shown for shown in (one.medoid, *one.nearest)}
            images = "image" if one.size == 1 else "images"
            found.append(Section(f"{one.title}: {one.size:,} {images}", list(first.values())))
        return found
