"""imgindex duplicates: images that duplicate each other, and which one of each group to keep."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, replace
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgindex.cli import folder_options, gallery_options, options
from imgindex.cli.output import choose_format, count, emit, progress, remark, show_failures, size, with_short_paths
from imgindex.errors import UsageError

if TYPE_CHECKING:
    from imgindex.results import Duplicates

COLUMNS = [
    "group",
    "how",
    "path",
    "same_file",
    "distance",
    "turned",
    "width",
    "height",
    "size",
    "mtime_ns",
    "sharpness",
]
COLUMNS += ["problem", "disposable", "id", "why"]


class Keep(str, Enum):
    """Which image of a group to keep."""

    largest = "largest"
    sharpest = "sharpest"
    oldest = "oldest"


def command(
    exact: Annotated[bool, typer.Option("--exact", help="Compare bytes alone: find copies under any name.")] = False,
    similar: options.Similar = False,
    distance: options.NearDistance = None,
    keep: Annotated[
        Keep,
        typer.Option(
            metavar="RULE", help="Which image to keep: largest (pixels), sharpest or oldest (time of change)."
        ),
    ] = Keep.largest,
    rotations: options.Rotations = False,
    flips: options.Flips = False,
    where: options.Where = None,
    link_to: Annotated[
        str | None, typer.Option(metavar="DIR", help="Make a folder in DIR for each group, with links to its images.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what --link-to would do, and make nothing.")] = False,
    index: options.Index = None,
    format: options.FormatName = None,
    json: options.Json = False,
    out: options.Out = None,
    html: gallery_options.Html = None,
    sheet: gallery_options.Sheet = None,
    preview: gallery_options.Preview = False,
    preview_as: gallery_options.PreviewAs = None,
    quiet: options.Quiet = False,
) -> int:
    """List duplicates in groups, and which image to keep.

    No image is changed. Each image has a grade: `same` has the bytes of the kept one; `copy` shows the same picture,
    verified on the pixels of both; `similar` is only near. --format paths prints the disposable images, which are the
    same or copies.

    Examples:
      imgindex duplicates --html duplicates.html
      imgindex duplicates --exact --format paths
    """
    from imgindex.index import ImageIndex

    folder_options.check_dry_run(dry_run, link_to)
    if exact and (similar or rotations or flips):
        raise UsageError("--exact compares bytes alone", hint="leave out --similar, --rotations and --flips")
    options.check_distance(distance, similar=similar)
    chosen = choose_format(format, json, out)
    gallery = gallery_options.GalleryOptions(
        html=html,
        sheet=sheet,
        preview=preview,
        preview_as=preview_as,
        table=chosen == "table" and out is None,
        quiet=quiet,
    )
    with ImageIndex.open(options.find_index(index)) as opened:
        with progress(quiet=quiet) as on_progress:
            found = opened.duplicates(
                exact=exact,
                similar=similar,
                distance=distance,
                keep=keep.value,
                rotations=rotations,
                flips=flips,
                where=where,
                on_progress=on_progress,
            )
        groups = {
            _folder_name(number, group.kept.path): [one.path for one in group.images]
            for number, group in enumerate(found.groups, 1)
        }
        folders = folder_options.make_folders(groups, link_to=link_to, dry_run=dry_run, quiet=quiet)
        gallery.show(opened, found)
    found = _with_short_paths(found)
    _print(found, chosen, out)
    if chosen == "table":
        remark(_summary(found), quiet=quiet)
    show_failures(found.failures, 0, quiet=quiet)
    failed = folder_options.print_folders(folders, quiet=quiet)
    return options.SOME_FAILED if found.failures or failed else 0


def _with_short_paths(found: Duplicates) -> Duplicates:
    groups = tuple(
        replace(
            group,
            kept=with_short_paths(group.kept, "path"),
            others=tuple(with_short_paths(one, "path") for one in group.others),
        )
        for group in found.groups
    )
    return replace(found, groups=groups, failures=tuple(with_short_paths(one, "path") for one in found.failures))


def _folder_name(number: int, kept: str) -> str:
    return f"{number:03} {os.path.splitext(os.path.basename(kept))[0]}"


def _print(found: Duplicates, format: str, out: str | None) -> None:
    from imgindex.export.tables import Table

    groups: list[dict[str, Any]] = [
        {
            "group": number,
            "keep": group.kept.path,
            "why": group.why,
            "images": [{**asdict(one), "disposable": one in group.disposable} for one in group.images],
        }
        for number, group in enumerate(found.groups, 1)
    ]
    rows = [{"group": group["group"], "why": group["why"], **image} for group in groups for image in group["images"]]
    if format == "paths":
        table = Table([], [row for row in rows if row["disposable"]], ["path"])
    elif format == "table":
        names = ["group", "image", "distance", "path", "pixels", "size", "remark"]
        table = Table([], [_table_row(row) for row in rows], names)
    elif format == "jsonl":
        table = Table(groups, rows, COLUMNS)
    else:
        data = {
            "images": found.images,
            "grades": found.grades,
            "groups": groups,
            "failures": [asdict(failure) for failure in found.failures],
        }
        table = Table(data, rows, COLUMNS)
    emit(table, format, out)


def _table_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the table: the kept image has the reason as its remark, the others their distance from it."""
    kept = row["how"] == "kept"
    how = ", ".join(filter(None, [row["how"], row["turned"], "the same file" if row["same_file"] else ""]))
    return {
        "group": row["group"],
        "image": "keep" if kept else how,
        "distance": "" if kept else f"{row['distance']:.4f}",
        "path": row["path"],
        "pixels": f"{row['width']} × {row['height']}",
        "size": size(row["size"]),
        "remark": row["problem"] or (row["why"] if kept else ""),
    }


def _summary(found: Duplicates) -> str:
    images = count(found.images, "image")
    if not found.groups:
        return f"no duplicates among {images}"
    disposable = [one for group in found.groups for one in group.disposable]
    files, be = count(len(disposable), "file"), "is" if len(disposable) == 1 else "are"
    room = size(sum(one.size for one in disposable))
    counts = Counter(one.how for group in found.groups for one in group.others)
    grades = ", ".join(f"{counts[grade]:,} {grade}" for grade in found.grades)
    groups = count(len(found.groups), "group")
    return f"{groups} among {images} ({grades}); {files} of {room} {be} disposable"
