"""imgindex duplicates: images that duplicate each other, and which one of each group to keep."""

from __future__ import annotations

import os
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgindex.cli import arranged, looking, options
from imgindex.cli.output import choose_format, emit, progress, remark, show_failures
from imgindex.errors import UsageError

if TYPE_CHECKING:
    from imgindex.answers.curation import Duplicates


class Keep(str, Enum):
    """What makes an image the one to keep."""

    largest = "largest"
    sharpest = "sharpest"
    oldest = "oldest"


def command(
    distance: options.NearDistance = None,
    exact: Annotated[bool, typer.Option("--exact", help="By bytes alone: copies, whatever their names.")] = False,
    keep: Annotated[
        Keep,
        typer.Option(help="Which image of a group to keep: most pixels, most detail, or earliest time of change."),
    ] = Keep.largest,
    rotations: options.Rotations = False,
    flips: options.Flips = False,
    where: options.Where = None,
    link_to: Annotated[
        str | None, typer.Option(metavar="DIR", help="Make a folder of links for each group in this folder.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what --link-to would do, and make nothing.")] = False,
    index: options.Index = None,
    weights: options.Weights = None,
    device: options.DeviceName = "auto",
    precision: options.Precision = "auto",
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
    html: looking.Html = None,
    sheet: looking.Sheet = None,
    preview: looking.Preview = False,
    preview_as: looking.PreviewAs = None,
    quiet: options.Quiet = False,
) -> int:
    """List groups of images that duplicate each other, and which one of each to keep and why; touches no image.

    `how` an image duplicates the kept one: exact (the same bytes), near (within the distance of the group's centre) or
    same file (by a link). --format paths prints those that one can do without.
    """
    from imgindex.index import ImageIndex
    from imgindex.reports.folders import arrange
    from imgindex.types import Engine

    if dry_run and link_to is None:
        raise UsageError("--dry-run speaks of --link-to", hint="without it nothing is made anyway")
    if exact and (distance is not None or rotations or flips):
        raise UsageError("--exact compares bytes, so it knows no distance and turns nothing")
    chosen = choose_format(format, json, out)
    looks = looking.wanted(html, sheet, preview, preview_as, table=chosen == "table" and out is None, quiet=quiet)
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
            folders = {
                _folder(number, group.kept.path): [one.path for one in group.images]
                for number, group in enumerate(found.groups, 1)
            }
            links = None if link_to is None else arrange(link_to, folders, dry_run=dry_run, on_progress=on_progress)
        if looks:
            looking.show(opened, opened.duplicates_page(found), looks)
    _show(found, chosen, out)
    if chosen == "table":
        remark(_summary(found), quiet=quiet)
    show_failures(found.failures, 0, quiet=quiet)
    if links is not None:
        arranged.show(links, quiet=quiet)
    return options.SOME_FAILED if found.failures or (links is not None and links.failures) else 0


def _folder(number: int, kept: str) -> str:
    return f"{number:03} {os.path.splitext(os.path.basename(kept))[0]}"


def _show(found: Duplicates, format: str, out: str | None) -> None:
    from imgindex.reports.formats import Document

    groups: list[dict[str, Any]] = [
        {
            "group": number,
            "keep": group.kept.path,
            "why": group.why,
            "images": [{**asdict(one), "spare": one in group.spare} for one in group.images],
        }
        for number, group in enumerate(found.groups, 1)
    ]
    rows = [{"group": group["group"], "why": group["why"], **image} for group in groups for image in group["images"]]
    if format == "paths":
        emit(Document([], [row for row in rows if row["spare"]], ["path"]), format, out)
    elif format == "table":
        emit(Document([], *_table(rows)), format, out)
    else:
        whole = {
            "distance": found.distance,
            "images": found.images,
            "groups": groups,
            "failures": [asdict(failure) for failure in found.failures],
        }
        columns = ["group", "how", "path", "distance", "turned", "width", "height", "size", "mtime_ns", "sharpness"]
        columns += ["problem", "spare", "id", "why"]
        emit(Document(groups if format == "jsonl" else whole, rows, columns), format, out)


def _table(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows for a person: the kept image with the reason, the others with what they are beside it."""
    shown = []
    for row in rows:
        kept = row["how"] == "kept"
        near = f"near, {row['turned']}" if row["turned"] else row["how"]
        said = "keep" if kept else near
        shown.append(
            {
                "group": row["group"],
                "image": said,
                "distance": "" if kept else f"{row['distance']:.4f}",
                "path": row["path"],
                "pixels": f"{row['width']} × {row['height']}",
                "bytes": row["size"],
                "remark": row["problem"] or (row["why"] if kept else ""),
            }
        )
    return shown, ["group", "image", "distance", "path", "pixels", "bytes", "remark"]


def _summary(found: Duplicates) -> str:
    if not found.groups:
        near = "" if found.distance is None else f" within {found.distance:g}"
        return f"no duplicates{near} among {found.images} images"
    spare = [one for group in found.groups for one in group.spare]
    size = sum(one.size for one in spare)
    near = "by their bytes" if found.distance is None else f"within {found.distance:g}"
    return (
        f"{_count(len(found.groups), 'group')} {near} among {found.images} images; "
        f"one can do without {_count(len(spare), 'file')} of {size:,} bytes"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
