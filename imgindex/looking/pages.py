"""From answers to what one looks at: pages, contact sheets and previews, with their pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from urllib.parse import quote

import numpy as np

from imgindex.answers.curation import Duplicates
from imgindex.errors import UsageError
from imgindex.mapping import make_scale
from imgindex.picturing import Thumbnail, small_pictures, thumbnails
from imgindex.reports.files import replacing
from imgindex.reports.formats import printable
from imgindex.reports.pages.model import (
    ClusterPage,
    DuplicatesPage,
    MatchesPage,
    OutliersPage,
    OutlierView,
    Page,
    PageGroup,
    QueryView,
    Shown,
)
from imgindex.reports.pages.render import Picture, render
from imgindex.reports.pages.words import count
from imgindex.reports.sheet import SIDE, draw, lay_out, numbered
from imgindex.reports.terminal import Screen, rows
from imgindex.storage.paths import shown
from imgindex.storage.store import Store
from imgindex.types import Answer, OnProgress, Outlier

# Pixels of the pictures of a page that shows up to so many images: all together stay below some 10 MB.
SIDES = ((150, 480), (600, 320), (1200, 240), (2500, 160))
# Images that a map shows small when one points at them, 96 pixels each: another 4 MB.
MAP_PICTURES, MAP_SIDE = 2000, 96


def matches_page(store: Store, answers: Sequence[Answer]) -> MatchesPage:
    """Return what a page of answers shows: distances with the share of pairs in this index that lie farther apart.

    Raises IndexDamaged.
    """
    scale = make_scale(store)
    queries = [
        QueryView(
            Shown(answer.query, caption="query"),
            [
                Shown(
                    match.path,
                    match.id,
                    match.distance,
                    scale.farther(match.distance),
                    caption=f"{match.rank}  {match.distance:.3f}  {os.path.basename(match.path)}",
                )
                for match in answer.matches
            ],
            failure=answer.failure.reason if answer.failure else "",
        )
        for answer in answers
    ]
    title = (
        f"Neighbours of {os.path.basename(answers[0].query)}"
        if len(answers) == 1
        else f"Neighbours of {len(answers)} images"
    )
    return MatchesPage(title, _facts(store), queries)


def outliers_page(store: Store, outliers: Sequence[Outlier]) -> OutliersPage:
    """Return what a page of outliers shows, each beside the image that is nearest to it. Raises IndexDamaged."""
    scale = make_scale(store)
    views = [
        OutlierView(
            Shown(
                one.path,
                one.id,
                note=one.reason,
                caption=f"{one.rank}  {one.times:.1f} × as far  {os.path.basename(one.path)}",
            ),
            Shown(one.nearest, distance=one.distance, farther=scale.farther(one.distance)),
            one.times,
        )
        for one in outliers
    ]
    return OutliersPage(f"{count(len(views), 'image')} least like any other", _facts(store), views)


def duplicates_page(store: Store, found: Duplicates) -> DuplicatesPage:
    """Return what a page of duplicates shows: of each group the one to keep and why, and the others beside it.

    Raises IndexDamaged.
    """
    scale = make_scale(store)
    groups = [
        PageGroup(
            Shown(group.kept.path, group.kept.id, note=group.kept.problem),
            group.why,
            [
                Shown(
                    one.path,
                    one.id,
                    one.distance,
                    scale.farther(one.distance),
                    ", ".join(filter(None, (one.how, one.turned, one.problem))),
                )
                for one in group.others
            ],
        )
        for group in found.groups
    ]
    facts = _facts(store)
    if found.distance is not None:
        facts = [*facts, ("within a distance of", f"{found.distance:g}")]
    return DuplicatesPage(f"{count(len(groups), 'group')} of duplicates", facts, groups)


def write_page(page: Page, out: str, *, on_progress: OnProgress | None = None) -> None:
    """Write a page as one HTML file with its pictures inside, which appears when it is whole.

    An image that is gone or cannot be read is shown as its reason. Raises OSError, DecoderUnavailable.
    """
    wanted = list(dict.fromkeys(_wanted(page)))
    most, side = next((limit for limit in SIDES if len(wanted) <= limit[0]), SIDES[-1])
    drawn = thumbnails(wanted[:most], side=side, on_progress=on_progress)
    pictures = {one.path: _picture(one, out) for one in drawn}
    spared = Picture(reason=f"the page has pictures of {most:,} images alone")
    pictures |= dict.fromkeys(wanted[most:], spared)
    small = _small(page, pictures, on_progress) if isinstance(page, ClusterPage) else {}
    with replacing(out) as file:
        file.write(render(page, pictures, small))


def _wanted(page: Page) -> list[str]:
    """The images of a page in the order in which they are wanted, should they be too many."""
    if isinstance(page, MatchesPage):
        return [image.path for one in page.queries for image in (one.query, *one.matches)]
    if isinstance(page, OutliersPage):
        return [image.path for one in page.outliers for image in (one.image, one.nearest)]
    if isinstance(page, ClusterPage):
        medoids = [one.medoid for one in page.clusters]
        others = [image for one in page.clusters for image in (*one.nearest, *one.farthest, *one.borderline)]
        return [image.path for image in (*medoids, *others)]
    return [image.path for section in page.sections() for image in section.shown]


def _picture(thumbnail: Thumbnail, out: str) -> Picture:
    href = link(thumbnail.path, out) if os.path.isfile(thumbnail.path) else ""
    return Picture(thumbnail.data, thumbnail.width, thumbnail.height, thumbnail.reason, href)


def link(path: str, out: str) -> str:
    """Return the way from a page to a file as a relative URL, whatever bytes its name has."""
    way = os.path.relpath(os.path.abspath(path), os.path.dirname(os.path.abspath(out)))
    return quote(os.fsencode(way), safe="/")


def _small(page: ClusterPage, pictures: dict[str, Picture], on_progress: OnProgress | None) -> dict[int, bytes]:
    """Draw images for the map, evenly taken, but for those that the page shows anyhow."""
    if page.map is None:
        return {}
    unseen = [(id, path) for id, path in zip(page.map.ids, page.map.paths, strict=True) if path not in pictures]
    kept = np.unique(np.linspace(0, len(unseen) - 1, min(len(unseen), MAP_PICTURES)).astype(np.int64)).tolist()
    ids, paths = [unseen[place][0] for place in kept], [unseen[place][1] for place in kept]
    drawn = thumbnails(paths, side=MAP_SIDE, on_progress=on_progress)
    return {id: thumbnail.data for id, thumbnail in zip(ids, drawn, strict=True)}


def _facts(store: Store) -> list[tuple[str, str]]:
    return [("images", f"{store.catalogue.count()['images']:,}"), ("index", shown(store.path, here=os.getcwd()))]


def write_sheet(page: Page, out: str, *, on_progress: OnProgress | None = None) -> list[str]:
    """Write contact sheets of a page's images; return the files' names: out, and where it takes several, out-2, …

    Raises UsageError unless the name ends in .png, OSError, DecoderUnavailable.
    """
    check_sheet(out)
    written = []
    for number, sheet in enumerate(lay_out(page.sections()), 1):
        paths = dict.fromkeys(cell.shown.path for cell in sheet.cells)
        drawn = small_pictures(paths, side=SIDE, on_progress=on_progress)
        pictures = {picture.path: picture.pixels for picture in drawn}
        written.append(numbered(out, number))
        with replacing(written[-1]) as file:
            file.write(draw(sheet, pictures))
    return written


def check_sheet(out: str) -> None:
    """Raise UsageError unless a contact sheet can have that name."""
    if os.path.splitext(out)[1].lower() != ".png":
        raise UsageError(f"{out!r} cannot be a contact sheet", hint="end the name in .png")


def preview(page: Page, screen: Screen) -> Iterator[bytes]:
    """Yield what shows a page's images in a terminal, a section's heading or a row of them at a time."""
    sections = page.sections()
    pictures = small_pictures([image.path for section in sections for image in section.shown], side=screen.side)
    for section in sections:
        yield f"{printable(section.title)}\n".encode()
        drawn = zip(section.shown, islice(pictures, len(section.shown)), strict=True)
        tiles = [(picture.pixels, image.caption or os.path.basename(image.path)) for image, picture in drawn]
        yield from rows(screen, tiles)
