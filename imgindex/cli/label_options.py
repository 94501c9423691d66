"""The options of the commands that print the labels of a clustering, and how the labels are printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgindex.cli import folder_options
from imgindex.cli.gallery_options import LISTED
from imgindex.cli.options import SOME_FAILED, Format
from imgindex.cli.output import choose_format, count, emit, remark, short_path, with_short_paths
from imgindex.cli.terminal import columns_of
from imgindex.errors import SampleMismatch, UsageError
from imgindex.export import documents
from imgindex.export.tables import ENDINGS, Table
from imgindex.storage.paths import absolute

if TYPE_CHECKING:
    from imgindex.cli.gallery_options import GalleryOptions
    from imgindex.index import ImageIndex
    from imgindex.results import Assignment, Clustering, LabelFormat

LabelsOut = Annotated[
    str | None, typer.Option("--out", metavar="FILE", help="Write ImageID,label to a file, such as submission.csv.")
]
Like = Annotated[
    str | None, typer.Option("--like", metavar="CSV", help="Copy columns, ids and order of this sample submission.")
]
IdKind = Annotated[
    str | None,
    typer.Option("--id", metavar="KIND", help="What ImageID is: stem, name or path.", show_default="stem"),
]
With = Annotated[
    str | None,
    typer.Option("--with", metavar="COLUMNS", help="More columns: name,cluster,distance,margin,second,silhouette."),
]
Maps = Annotated[
    str | None,
    typer.Option(
        "--map",
        metavar="METHODS",
        help="Maps on the page of --html: pca, pacmap, umap, tsne, or several.",
        show_default="pca",
    ),
]

Images = Annotated[
    str | None,
    typer.Option(
        "--images",
        metavar="N",
        help="How many images the clusters on the page of --html list: a number, or all.",
        show_default="2000",
    ),
]


class LabelOptions:
    """How a command prints a clustering: its labels to the file `out`, and its sizes or labels to stdout.

    format: the format of stdout, which is a table beside a file, unless JSON is asked for. id and extras: None for
    those that the clustering was made with. Raises UsageError for wrong options, before any work is done.
    """

    def __init__(
        self,
        *,
        out: str | None,
        format: Format | None,
        json: bool,
        like: str | None,
        id: str | None,
        extras: str | None,
        quiet: bool,
    ) -> None:
        from imgindex.export.csv_input import read_text

        if like is not None and (not os.path.exists(absolute(like)) or os.path.isdir(absolute(like))):
            raise UsageError(f"the sample {like!r} does not exist", hint="check the path given to --like")
        ends_in_format = out is not None and os.path.splitext(out)[1].lower() in ENDINGS
        self._out = out
        self._out_format = None if out is None else choose_format(None if ends_in_format else format, False, out)
        self.format = choose_format(None if out is not None and not json else format, json)
        self._like = None if like is None else read_text(like, error=SampleMismatch)
        self._id = id
        self._extras = None if extras is None else tuple(filter(None, extras.split(",")))
        self._quiet = quiet
        # Why ImageIDs are not of the usual kind, "" where they are.
        self._instead = ""

    @property
    def _writes_labels(self) -> bool:
        """Whether labels are written to the file or to stdout."""
        return self._out is not None or self.format != "table" or self._like is not None

    def label_format(self, paths: Sequence[str], made_with: LabelFormat | None = None) -> LabelFormat | None:
        """Return how labels are written: as asked, else as the clustering was made.

        Without a CSV that another program may read, labels have another kind of ImageID where two of the images at
        these paths have the same one.

        None for a new clustering whose labels are not written: then two of its images may have the same ImageID.
        """
        from imgindex.export.submission import distinct_kind
        from imgindex.results import LabelFormat

        given: dict[str, Any] = {"id": self._id, "like": self._like, "extras": self._extras}
        given = {name: value for name, value in given.items() if value is not None}
        if made_with is None and not given and not self._writes_labels:
            return None
        wanted = replace(made_with or LabelFormat(), **given, relative_to=os.getcwd())
        if self._id is None and self._out is None and wanted.like is None and self.format not in ("csv", "tsv"):
            distinct = distinct_kind(paths, wanted.id)
            if distinct != wanted.id:
                self._instead = f"each ImageID is a {distinct}, because images have the same {wanted.id}"
            wanted = replace(wanted, id=distinct)
        return wanted

    def print_clustering(self, opened: ImageIndex, found: Clustering) -> None:
        """Print the sizes of the clusters or the labels, write the file, and summarize the clustering on stderr."""
        from imgindex.cli import cluster_tables
        from imgindex.cli.silhouette_plot import plot

        labels = self._write_labels(opened, found)
        if found.curve and self.format != "json":
            for line in plot(found.curve, found.k, columns=columns_of(sys.stderr)):
                remark(line, quiet=self._quiet)
        if labels is None or self.format == "table":
            emit(cluster_tables.sizes(found), "table", optional=["cluster"])
        elif self.format == "json":
            provenance = documents.clustering(found)
            data = {**provenance, "images": labels.data} if self._out is None else provenance
            emit(replace(labels, data=data), "json")
        else:
            emit(labels, self.format)
        if self.format != "json":
            remark(cluster_tables.summary(found) + self._where_labels_are(), quiet=self._quiet)
            for line in cluster_tables.advice(found):
                remark(line, quiet=self._quiet)
            if (drift := cluster_tables.drift(found)) is not None:
                remark(drift, quiet=self._quiet)

    def print_assignment(self, opened: ImageIndex, found: Assignment) -> None:
        """Print the images that were put into clusters, or all labels, and write the file."""
        from imgindex.cli import cluster_tables

        labels = self._write_labels(opened, found.clustering)
        if labels is None or self.format in ("table", "json", "paths"):
            assigned = tuple(with_short_paths(one, "path") for one in found.assigned)
            table = cluster_tables.assignment(replace(found, assigned=assigned))
            emit(table, self.format, optional=["id", "second", "margin"])
        else:
            emit(labels, self.format)
        put = f"{count(len(found.assigned), 'image')} put into clustering {found.clustering.id}"
        remark(put + self._where_labels_are(), quiet=self._quiet)

    def _write_labels(self, opened: ImageIndex, found: Clustering) -> Table | None:
        """Write the labels to the file, if there is one, and return them; return None if no labels are written."""
        if not self._writes_labels:
            return None
        made_with = found.label_format
        label_format = self.label_format(found.paths, made_with) or made_with
        if self._instead and self.format != "paths":
            remark(self._instead, quiet=self._quiet)
        labels = opened.label_table(found, label_format)
        data, rows = ([{**row, "path": short_path(row["path"])} for row in rows] for rows in (labels.data, labels.rows))
        labels = replace(labels, data=data, rows=rows)
        if self._out is not None and self._out_format is not None:
            emit(labels, self._out_format, self._out)
        return labels

    def _where_labels_are(self) -> str:
        return "" if self._out is None else f"; labels in {self._out}"


def map_methods(text: str | None, html: str | None) -> list[str]:
    """Return the methods that --map names. Raises UsageError, and ExtraMissing where a library is not installed."""
    from imgindex.vectors.projection import check_method

    if text is not None and html is None:
        raise UsageError("--map has no effect without --html", hint="give --html FILE too")
    methods = list(dict.fromkeys(filter(None, (text or "pca").split(","))))
    for method in methods:
        check_method(method)
    return methods


def show_clusters(
    opened: ImageIndex,
    found: Clustering,
    gallery: GalleryOptions,
    *,
    maps: Sequence[str],
    images: int | None = LISTED,
    link_to: str | None,
    copy_to: str | None,
    dry_run: bool,
    quiet: bool,
) -> int:
    """Fill the folders of the clusters, then show the page, the sheets and the thumbnails; return the exit code."""
    folders = folder_options.make_folders(
        folder_options.cluster_groups(found), link_to=link_to, copy_to=copy_to, dry_run=dry_run, quiet=quiet
    )
    failed = folder_options.print_folders(folders, quiet=quiet)
    gallery.show(opened, found, maps=maps, images=images)
    return SOME_FAILED if failed else 0


def page_images(text: str | None, html: str | None) -> int | None:
    """Return how many images the page lists, None for all. Raises UsageError."""
    if text is None:
        return LISTED
    if html is None:
        raise UsageError("--images has no effect without --html", hint="give --html FILE too")
    if text == "all":
        return None
    if not text.isdecimal():
        raise UsageError(f"--images {text} is not a number of images", hint="give a number, or all")
    return int(text)
