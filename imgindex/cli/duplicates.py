"""imgindex duplicates: images that duplicate each other, and which one of each group to keep."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections import Counter
from dataclasses import asdict, replace
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgindex.cli import folder_options, gallery_options, options
from imgindex.cli.output import (
    choose_format,
    count,
    emit,
    progress,
    remark,
    short_path,
    show_failures,
    size,
    with_short_paths,
)
from imgindex.errors import UsageError
from imgindex.export import documents

if TYPE_CHECKING:
    from imgindex.results import Disposal, Duplicates

COLUMNS = ["group", "how", "path", "same_file", "distance", "turned", "width", "height", "size", "mtime_ns"]
COLUMNS += ["sharpness", "problem", "protected", "disposable", "id", "why", "sha256"]


class Keep(str, Enum):
    """Which image of a group to keep."""

    original = "original"
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
            metavar="RULE", help="Which image to keep: the original, largest (pixels), sharpest or oldest (file time)."
        ),
    ] = Keep.original,
    prefer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB", help="Keep what matches before all others; may be repeated, the first counts most."
        ),
    ] = None,
    rotations: options.Rotations = False,
    flips: options.Flips = False,
    where: options.Where = None,
    link_to: Annotated[
        str | None, typer.Option(metavar="DIR", help="Make a folder in DIR for each group, with links to its images.")
    ] = None,
    move_to: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Move the disposable files to DIR, with their sidecars; can be undone."),
    ] = None,
    undo: Annotated[
        str | None, typer.Option(metavar="DIR", help="Move back what --move-to DIR moved; finds no duplicates.")
    ] = None,
    trash: Annotated[bool, typer.Option("--trash", help="Put the disposable files into the system's trash.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what --move-to, --trash, --undo or --link-to would do; do nothing.")
    ] = False,
    wait: options.Wait = False,
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

    Each image has a grade: `same` has the bytes of the kept one; `copy` shows the same picture, verified on the pixels
    of both; `similar` is only near. --format paths prints the disposable images, which are the same or copies: their
    files, and the kept ones, were read again and are as they were added.

    Examples:
      imgindex duplicates --html duplicates.html
      imgindex duplicates --exact --move-to spare --dry-run
    """
    from imgindex.index import ImageIndex

    _check_actions(move_to=move_to, undo=undo, trash=trash, link_to=link_to, dry_run=dry_run)
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
    if undo is not None:
        return _undo(undo, index, dry_run=dry_run, wait=wait, format=chosen, out=out, quiet=quiet)
    disposal = None
    with ImageIndex.open(options.find_index(index), wait=wait) as opened:
        with progress(quiet=quiet) as on_progress:
            found = opened.duplicates(
                exact=exact,
                similar=similar,
                distance=distance,
                keep=keep.value,
                prefer=prefer or (),
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
        with progress(quiet=quiet) as on_progress:
            if move_to is not None:
                disposal = opened.move_duplicates(found, move_to, dry_run=dry_run, on_progress=on_progress)
            elif trash:
                disposal = opened.trash_duplicates(found, dry_run=dry_run, on_progress=on_progress)
    _print(_with_short_paths(found), chosen, out, disposal)
    if chosen == "table":
        remark(_summary(found), quiet=quiet)
    show_failures(found.failures, 0, quiet=quiet)
    failed = folder_options.print_folders(folders, quiet=quiet)
    if disposal is not None:
        _remark_disposal(disposal, "move to the trash" if trash else "move", quiet=quiet)
        failed = failed or bool(disposal.failures)
    return options.SOME_FAILED if found.failures or failed else 0


def _check_actions(*, move_to: str | None, undo: str | None, trash: bool, link_to: str | None, dry_run: bool) -> None:
    """Raise UsageError for actions that exclude each other, and for a dry run of none."""
    actions = {"--move-to": move_to is not None, "--undo": undo is not None, "--trash": trash}
    given = [name for name, is_given in actions.items() if is_given]
    if len(given) > 1 or (undo is not None and link_to is not None):
        given += ["--link-to"] if link_to is not None else []
        raise UsageError(f"{' and '.join(given)} exclude each other", hint="give one of them")
    if dry_run and not given and link_to is None:
        raise UsageError(
            "--dry-run has no effect without an action", hint="give --move-to DIR, --trash or --link-to DIR"
        )


def _undo(
    folder: str, index: str | None, *, dry_run: bool, wait: bool, format: str, out: str | None, quiet: bool
) -> int:
    """Move files back, and mark their images as present if there is an index."""
    import imgindex
    from imgindex.errors import IndexNotFound
    from imgindex.index import ImageIndex

    with contextlib.ExitStack() as stack:
        on_progress = stack.enter_context(progress(quiet=quiet))
        try:
            opened = stack.enter_context(ImageIndex.open(options.find_index(index), wait=wait))
        except IndexNotFound:
            if index is not None:
                raise
            disposal = imgindex.undo_move(folder, dry_run=dry_run, on_progress=on_progress)
        else:
            disposal = opened.undo_move(folder, dry_run=dry_run, on_progress=on_progress)
    _print_disposal(disposal, format, out)
    _remark_disposal(disposal, "move back", quiet=quiet)
    return options.SOME_FAILED if disposal.failures else 0


def _print_disposal(disposal: Disposal, format: str, out: str | None) -> None:
    from imgindex.export.tables import Table

    data = _disposal_data(disposal)
    emit(Table(data, data["files"], ["path", "to", "size", "sidecar_of"]), format, out, optional=["sidecar_of", "size"])


def _disposal_data(disposal: Disposal) -> dict[str, Any]:
    paths = ("path", "to", "sidecar_of")
    return {
        "folder": disposal.folder,
        "dry_run": disposal.dry_run,
        "files": [
            {name: short_path(value) if name in paths and value else value for name, value in asdict(one).items()}
            for one in disposal.files
        ],
        "failures": [asdict(with_short_paths(failure, "path")) for failure in disposal.failures],
    }


def _remark_disposal(disposal: Disposal, verb: str, *, quiet: bool) -> None:
    """Print on stderr what was moved, in a dry run each file, and what could not be moved."""
    from imgindex.export.tables import printable

    if disposal.dry_run:
        for one in disposal.files:
            to = f" → {printable(short_path(one.to))}" if one.to and verb == "move" else ""
            remark(f"would {verb}: {printable(short_path(one.path))}{to}", quiet=quiet)
    failures = tuple(with_short_paths(failure, "path") for failure in disposal.failures)
    show_failures(failures, 0, quiet=quiet)
    done = {"move": "moved", "move back": "moved back", "move to the trash": "moved to the trash"}[verb]
    sidecars = sum(bool(one.sidecar_of) for one in disposal.files)
    with_sidecars = f" and {count(sidecars, 'sidecar')}" if sidecars else ""
    counts = f"{count(len(disposal.files) - sidecars, 'file')}{with_sidecars}"
    failed = f"; {len(failures):,} could not be" if failures else ""
    undo = ""
    if verb == "move" and disposal.files and not disposal.dry_run:
        undo = f"; to undo: imgindex duplicates --undo {shlex.quote(short_path(disposal.folder))}"
    remark(f"{'would be ' if disposal.dry_run else ''}{done}: {counts}{failed}{printable(undo)}", quiet=quiet)


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


def _print(found: Duplicates, format: str, out: str | None, disposal: Disposal | None) -> None:
    from imgindex.export.tables import Table

    groups = documents.groups(found)
    rows = [{"group": group["group"], **image} for group in groups for image in group["images"]]
    if format == "paths":
        table = Table([], [row for row in rows if row["disposable"]], ["path"])
        if disposal is not None:
            table = Table([], _disposal_data(disposal)["files"], ["path"])
    elif format == "table":
        names = ["group", "image", "distance", "path", "pixels", "size", "remark"]
        table = Table([], [_table_row(row) for row in rows], names)
    elif format == "jsonl":
        table = Table(groups, rows, COLUMNS)
    else:
        data = documents.duplicates(found)
        if disposal is not None:
            data["disposal"] = _disposal_data(disposal)
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
        "remark": row["problem"] or row["protected"] or (row["why"] if kept else ""),
    }


def _summary(found: Duplicates) -> str:
    images = count(found.images, "image")
    if not found.groups:
        return f"no duplicates among {images}"
    disposable = [one for group in found.groups for one in group.disposable]
    files, be = count(len(disposable), "file"), "is" if len(disposable) == 1 else "are"
    room = size(sum(one.frees for one in disposable))
    counts = Counter(one.how for group in found.groups for one in group.others)
    grades = ", ".join(f"{counts[grade]:,} {grade}" for grade in found.grades)
    groups = count(len(found.groups), "group")
    return f"{groups} among {images} ({grades}); {files} of {room} {be} disposable"
