"""imgindex duplicates: images that duplicate each other, and which one of each group to keep."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgindex.cli import folder_options, gallery_options, options
from imgindex.cli.output import choose_format, count, emit, progress, remark, show_failures, size, with_short_paths
from imgindex.errors import UsageError

if TYPE_CHECKING:
    from imgindex.results import Duplicates

COLUMNS = ["group", "how", "path", "distance", "turned", "width", "height", "size", "mtime_ns", "sharpness"]
COLUMNS += ["problem", "disposable", "id", "why"]


class Keep(str, Enum):
    """Which image of a group to keep."""

    largest = "largest"
    sharpest = "sharpest"
    oldest = "oldest"


def command(
    distance: options.NearDistance = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare bytes alone: find copies under any name.")] = False,
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
    weights: options.Weights = None,
    device: options.DeviceName = "auto",
    precision: options.Precision = "auto",
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

    No image is changed. An image duplicates the kept one exactly (the same bytes), nearly (within the distance of the
    group's centre), or as the same file (by a link). --format paths prints the disposable images.

    Examples:
      imgindex duplicates --html duplicates.html
      imgindex duplicates --exact --format paths
    """
    from imgindex.index import ImageIndex
    from imgindex.types import Engine

    folder_options.check_dry_run(dry_run, link_to)
    if exact and (distance is not None or rotations or flips):
        raise UsageError("--exact compares bytes alone", hint="leave out --distance, --rotations and --flips")
    chosen = choose_format(format, json, out)
    gallery = gallery_options.GalleryOptions(
        html=html,
        sheet=sheet,
        preview=preview,
        preview_as=preview_as,
        table=chosen == "table" and out is None,
        quiet=quiet,
    )
    engine = Engine(device, precision)
    with ImageIndex.open(options.find_index(index), weights=weights, engine=engine) as opened:
        with progress(quiet=quiet) as on_progress:
            found = opened.duplicates(
                distance=distance,
                exact=exact,
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
            "distance": found.distance,
            "images": found.images,
            "groups": groups,
            "failures": [asdict(failure) for failure in found.failures],
        }
        table = Table(data, rows, COLUMNS)
    emit(table, format, out)


def _table_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the table: the kept image has the reason as its remark, the others their distance from it."""
    kept = row["how"] == "kept"
    how = f"near, {row['turned']}" if row["turned"] else row["how"]
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
        within = "" if found.distance is None else f" within {found.distance:g}"
        return f"no duplicates{within} among {images}"
    disposable = [one for group in found.groups for one in group.disposable]
    how = "by their bytes" if found.distance is None else f"within {found.distance:g}"
    files, be = count(len(disposable), "file"), "is" if len(disposable) == 1 else "are"
    room = size(sum(one.size for one in disposable))
    return f"{count(len(found.groups), 'group')} {how} among {images}; {files} of {room} {be} disposable"
