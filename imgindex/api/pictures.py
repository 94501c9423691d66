"""What an index looks like: thumbnails, a map on a plane, and pages and sheets that one can look at."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from imgindex.storage.paths import shown
from imgindex.storage.store import Store
from imgindex.types import OnProgress, Path

if TYPE_CHECKING:
    from imgindex.answers.clusterings import Clustering
    from imgindex.answers.curation import Duplicates
    from imgindex.mapping import Map
    from imgindex.picturing import Thumbnail
    from imgindex.reports.pages.model import ClusterPage, DuplicatesPage, MatchesPage, OutliersPage, Page
    from imgindex.reports.terminal import Screen
    from imgindex.types import Answer, Outlier


class Pictures:
    """The half of an ImageIndex that shows; paths open from the current folder, as everywhere."""

    _store: Store

    def thumbnails(
        self,
        ids: Iterable[int] | None = None,
        *,
        side: int = 256,
        format: str = "webp",
        on_progress: OnProgress | None = None,
    ) -> Iterator[Thumbnail]:
        """Yield a thumbnail of each image, of all in the order of ids, or of those asked for.

        side: pixels of the longer side. format: webp or jpeg. An image that is gone or cannot be read has no data,
        and the reason why. Raises UsageError.
        """
        from imgindex.picturing import thumbnails

        here = os.getcwd()
        paths = self._store.catalogue.image_paths(ids).values()
        return thumbnails((shown(path, here=here) for path in paths), side=side, format=format, on_progress=on_progress)

    def map(self, method: str = "pca", *, seed: int = 42) -> Map:
        """Return coordinates of all images on a plane, by pca, umap or tsne; the same seed gives the same map.

        Raises UsageError for another method, or for t-SNE of more than 20,000 images; ExtraMissing without
        `pip install 'imgindex[plots]'`, which umap and tsne need; IndexDamaged.
        """
        from imgindex.mapping import make_map

        return make_map(self._store, method, seed=seed)

    def matches_page(self, answers: Sequence[Answer]) -> MatchesPage:
        """Return what a page of `answers` shows, with the share of pairs of images that lie farther apart.

        Raises IndexDamaged.
        """
        from imgindex.looking.pages import matches_page

        return matches_page(self._store, answers)

    def outliers_page(self, outliers: Sequence[Outlier]) -> OutliersPage:
        """Return what a page of `outliers` shows. Raises IndexDamaged."""
        from imgindex.looking.pages import outliers_page

        return outliers_page(self._store, outliers)

    def duplicates_page(self, duplicates: Duplicates) -> DuplicatesPage:
        """Return what a page of `duplicates` shows. Raises IndexDamaged."""
        from imgindex.looking.pages import duplicates_page

        return duplicates_page(self._store, duplicates)

    def clusters_page(self, clustering: Clustering, *, maps: Sequence[str] = ("pca",)) -> ClusterPage:
        """Return what a page of a clustering shows: its clusters' medoids, nearest, farthest and borderline images.

        maps: pca, umap and tsne, as many as wanted; see `map`, whose errors it raises.
        """
        from imgindex.looking.portraits import cluster_page

        return cluster_page(self._store, clustering, methods=maps)

    def write_page(self, page: Page, out: Path, *, on_progress: OnProgress | None = None) -> None:
        """Write a page to one HTML file with its pictures inside; it needs no network and appears when it is whole."""
        from imgindex.looking.pages import write_page

        write_page(page, os.fspath(out), on_progress=on_progress)

    def write_sheet(self, page: Page, out: Path, *, on_progress: OnProgress | None = None) -> list[str]:
        """Write a page's images as contact sheets of at most 10,000 pixels; return the names of the files.

        Raises UsageError unless the name ends in .png.
        """
        from imgindex.looking.pages import write_sheet

        return write_sheet(page, os.fspath(out), on_progress=on_progress)

    def preview(self, page: Page, screen: Screen) -> Iterator[bytes]:
        """Yield the bytes that show a page's images in a terminal, row by row."""
        from imgindex.looking.pages import preview

        return preview(page, screen)
