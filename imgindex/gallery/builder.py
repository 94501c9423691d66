"""Build the page for a result of ImageIndex, and write it as HTML or contact sheets, or show it in a terminal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from imgindex.decoding.thumbnails import KeptThumbnails, thumbnail_pixels, thumbnails
from imgindex.errors import UsageError
from imgindex.export.atomic import is_stream
from imgindex.export.tables import printable
from imgindex.export.targets import check_target, writing
from imgindex.gallery import pages
from imgindex.gallery.cluster_page import cluster_page
from imgindex.gallery.contact_sheet import SIDE, check_sheet, draw, lay_out, numbered
from imgindex.gallery.html import Picture, relative_url, render
from imgindex.gallery.model import ClusterPage, ImageCard, Page, Section
from imgindex.gallery.notebook import sheet_html
from imgindex.gallery.terminal import Screen, rows
from imgindex.results import Answer, Clustering, Duplicates, Outlier, Outliers
from imgindex.sources.addresses import is_web
from imgindex.storage.paths import absolute, path_text
from imgindex.storage.store import Store
from imgindex.storage.thumbnails import ThumbnailStore
from imgindex.types import Image, OnProgress, Path

# The longer side in pixels of the pictures on a page of at most so many images: a page stays below some 10 MB.
SIDES = ((150, 480), (600, 320), (1200, 240), (2500, 160))
# The longer side in pixels of the small pictures, which lists and the map show, of at most so many images; and of more.
SMALL_SIDES, SMALLEST = ((500, 192), (2000, 128)), 96
# Images that a notebook shows of an index.
IN_OVERVIEW = 24
# Images of a map that get a small picture where the lists have fewer.
MAP_PICTURES = 2000


@dataclass(frozen=True, slots=True)
class GalleryPage:
    """A page that can be written or shown.

    page: its content as plain data. index: the folder of its index. images: by path, what the index
    knows of them.
    """

    page: Page
    index: str | None = None
    images: Mapping[str, Image] = field(default_factory=dict)

    def __repr__(self) -> str:
        images = sum(len(section.cards) for section in self.page.sections())
        return f"<GalleryPage {self.page.title!r}: {images:,} images>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the title, and the first pictures of each section."""
        return sheet_html(self.page.title, self.page.sections())

    def write_html(self, out: Path, *, overwrite: bool = False, on_progress: OnProgress | None = None) -> None:
        """Write one HTML file that contains its pictures and needs no network; it appears when it is complete.

        An image that is missing or unreadable is shown as the reason. overwrite: replace a file that imgindex did not
        write. Raises FileNotOurs when `out` is such a file, or has the ending of an image; OSError, DecoderUnavailable.
        """
        out = path_text(out)
        check_target(out, overwrite=overwrite, index=self.index)
        # Where a page that goes through a pipe will be is unknown; most often it is redirected to this folder.
        place = os.path.abspath("page.html") if is_stream(out) else absolute(out)
        wanted = list(dict.fromkeys(card.path for card in self.page.cards() if card.path))
        most, side = next((limit for limit in SIDES if len(wanted) <= limit[0]), SIDES[-1])
        with self._kept() as kept:
            pictures = _drawn(wanted[:most], place, side, kept, on_progress)
            omitted = Picture(reason=f"a page has pictures of at most {most:,} images")
            pictures |= dict.fromkeys(wanted[most:], omitted)
            if isinstance(self.page, ClusterPage):
                further = _further(self.page, pictures)
                small = next((small for most, small in SMALL_SIDES if len(further) <= most), SMALLEST)
                pictures |= _drawn(further, place, small, kept, on_progress)
        with writing(out, overwrite=overwrite, index=self.index) as file:
            file.write(render(self.page, pictures, self.images))

    def write_sheet(self, out: Path, *, overwrite: bool = False, on_progress: OnProgress | None = None) -> list[str]:
        """Write contact sheets of at most 10,000 pixels a side, and return their names: out, and out-2 and so on.

        overwrite: replace files that imgindex did not write. Raises FileNotOurs, before anything is written, when one
        of the names is such a file; UsageError unless the name ends in .png; OSError, DecoderUnavailable.
        """
        out = path_text(out)
        check_sheet(out)
        sheets = lay_out(self.page.sections())
        if is_stream(out) and len(sheets) > 1:
            raise UsageError(f"{len(sheets)} contact sheets do not fit into one stream", hint="name a file")
        for number in range(1, len(sheets) + 1):
            check_target(numbered(out, number), overwrite=overwrite, index=self.index, sheet=True)
        written = []
        for number, sheet in enumerate(sheets, 1):
            paths = dict.fromkeys(cell.card.path for cell in sheet.cells if cell.card.path)
            with self._kept() as kept:
                drawn = thumbnail_pixels(paths, side=SIDE, kept=kept, on_progress=on_progress)
                pictures = {picture.path: picture.pixels for picture in drawn}
            written.append(numbered(out, number))
            with writing(written[-1], overwrite=overwrite, index=self.index, sheet=True) as file:
                file.write(draw(sheet, pictures))
        return written

    def preview(self, screen: Screen) -> Iterator[bytes]:
        """Yield the bytes that show the images in a terminal, a heading or a row at a time."""
        sections = self.page.sections()
        paths = [card.path for section in sections for card in section.cards if card.path]
        with self._kept() as kept:
            pictures = thumbnail_pixels(paths, side=screen.side, kept=kept)
            for section in sections:
                yield f"{printable(section.title)}\n".encode()
                tiles = [(next(pictures).pixels if card.path else None, card.display_caption) for card in section.cards]
                yield from rows(screen, tiles)

    @contextlib.contextmanager
    def _kept(self) -> Iterator[KeptThumbnails | None]:
        """Lend the thumbnails that the index keeps; None for a page without an index."""
        if self.index is None:
            yield None
            return
        with contextlib.closing(ThumbnailStore(self.index)) as store:
            hashes = {path: bytes.fromhex(image.sha256) for path, image in self.images.items()}
            yield KeptThumbnails(store, hashes)


def build(
    store: Store,
    found: Clustering | Duplicates | Sequence[Answer] | Sequence[Outlier],
    *,
    maps: Sequence[str],
    images: int | None,
    relative_to: str | None,
    on_progress: OnProgress,
) -> GalleryPage:
    """Return the page of a result; the parameters are those of `ImageIndex.gallery`.

    Relative paths in the result are resolved now, so that the page may be written from any folder. Raises IndexDamaged,
    and for a clustering UsageError and ExtraMissing as `ImageIndex.map`.
    """
    display = pages.displayed_from(relative_to)
    page = _page(store, found, maps=maps, images=images, display=display, on_progress=on_progress)
    paths = [card.path for card in page.cards() if card.path]
    if isinstance(page, ClusterPage):
        paths += [one.path for view in page.clusters for one in view.listed]
        paths += page.map.paths if page.map is not None else []
    ids = {path: known.id for path, known in store.catalogue.known(list(dict.fromkeys(paths))).items()}
    records = {record.id: record for record in store.catalogue.records(dict.fromkeys(ids.values()))}
    return GalleryPage(page, store.path, {path: records[id] for path, id in ids.items() if id in records})


def _page(
    store: Store,
    found: Clustering | Duplicates | Sequence[Answer] | Sequence[Outlier],
    *,
    maps: Sequence[str],
    images: int | None,
    display: pages.Display,
    on_progress: OnProgress,
) -> Page:
    if isinstance(found, Clustering):
        return cluster_page(store, found, methods=maps, images=images, display=display, on_progress=on_progress)
    if isinstance(found, Duplicates):
        return pages.duplicates_page(store, found, display)
    outliers = [one for one in found if isinstance(one, Outlier)]
    # An empty result still has the page of its kind: that of no outliers says so.
    if outliers or isinstance(found, Outliers):
        return pages.outliers_page(store, outliers, display)
    answers = [one for one in found if isinstance(one, Answer)]
    if len(answers) < len(found):
        raise UsageError(
            f"an object of the type {type(next(iter(found))).__name__} cannot be shown",
            hint="show what `cluster`, `duplicates`, `outliers` or, instead of `similar`, `answers` returned",
        )
    return pages.matches_page(store, answers, display)


def overview(store: Store, title: str) -> str:
    """Return the HTML by which a notebook shows an index: pictures of a few images that are evenly taken."""
    places = store.catalogue.image_paths()
    ids = list(places)
    chosen = np.unique(np.linspace(0, max(0, len(ids) - 1), min(len(ids), IN_OVERVIEW)).astype(np.int64)).tolist()
    cards = [ImageCard(places[ids[number]], ids[number]) for number in chosen]
    return sheet_html(title, [Section("", cards)], in_section=IN_OVERVIEW)


def _link(path: str, out: str) -> str:
    if is_web(path):
        return path
    return relative_url(path, out) if os.path.isfile(path) else ""


def _drawn(
    paths: Sequence[str], place: str, side: int, kept: KeptThumbnails | None, on_progress: OnProgress | None
) -> dict[str, Picture]:
    """Return the pictures of images by path, or the reason why there is none; place: the path of the page."""
    return {
        one.path: Picture(one.data, max(one.width, one.height), one.reason, _link(one.path, place))
        for one in thumbnails(paths, side=side, kept=kept, on_progress=on_progress)
    }


def _further(page: ClusterPage, pictures: Mapping[str, Picture]) -> list[str]:
    """Return the listed images, and an even sample of those on the map, that have no picture yet."""
    listed = dict.fromkeys(one.path for view in page.clusters for one in view.listed if one.path not in pictures)
    others = [path for path in page.map.paths if path not in pictures and path not in listed] if page.map else []
    count = max(0, min(len(others), MAP_PICTURES - len(listed)))
    sample = np.unique(np.linspace(0, len(others) - 1, count).astype(np.int64)).tolist()
    return [*listed, *(others[place] for place in sample)]
