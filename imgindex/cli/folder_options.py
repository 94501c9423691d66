"""The options that make a folder for each group of images, and what is printed about these folders."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from imgindex.cli import output
from imgindex.cli.output import progress, remark, show_failures
from imgindex.errors import UsageError

if TYPE_CHECKING:
    from imgindex.export.folders import LinkedFolders
    from imgindex.results import Clustering

LinkTo = Annotated[
    str | None,
    typer.Option("--link-to", metavar="DIR", help="Make a folder in DIR for each cluster, with links to its images."),
]
CopyTo = Annotated[str | None, typer.Option("--copy-to", metavar="DIR", help="The same with copies.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what --link-to or --copy-to would do, and make nothing.")]


def check_dry_run(dry_run: bool, *folders: str | None) -> None:
    """Raise UsageError for a dry run without a folder that it could be about, and for a folder without a name."""
    if "" in folders:
        raise UsageError("the folder '' has no name", hint="is a variable empty?")
    if dry_run and not any(folder is not None for folder in folders):
        raise UsageError("--dry-run has no effect without a folder to fill", hint="give --link-to DIR too")


def make_folders(
    groups: Mapping[str, Sequence[str]],
    *,
    link_to: str | None = None,
    copy_to: str | None = None,
    dry_run: bool,
    quiet: bool,
) -> list[LinkedFolders]:
    """Fill the folders that the options name with a folder for each group. Raises as `link_folders`."""
    from imgindex.export.folders import link_folders

    made = []
    for where, copy in ((link_to, False), (copy_to, True)):
        if where is not None:
            with progress(quiet=quiet) as on_progress:
                overwrite = output.settings.overwrite
                folders = link_folders(
                    where, groups, copy=copy, overwrite=overwrite, dry_run=dry_run, on_progress=on_progress
                )
                made.append(folders)
    return made


def print_folders(folders: Sequence[LinkedFolders], *, quiet: bool) -> bool:
    """Print on stderr what was made, and in a dry run each entry; return whether some images could not be placed."""
    from imgindex.export.tables import printable

    for made in folders:
        if made.dry_run:
            for verb, entries in (("make", made.made), ("keep", made.kept), ("remove", made.removed)):
                for one in entries:
                    place = printable(os.path.join(made.where, one.name))
                    remark(f"would {verb} {place} → {printable(one.image)}", quiet=quiet)
        show_failures(made.failures, 0, quiet=quiet)
        counts = f"{len(made.made):,} made, {len(made.kept):,} kept, {len(made.removed):,} removed"
        kind, would = "copies" if made.copies else "links", "would be: " if made.dry_run else ""
        remark(f"{kind} in {printable(made.where)}: {would}{counts}", quiet=quiet)
    return any(made.failures for made in folders)


def cluster_groups(found: Clustering) -> dict[str, list[str]]:
    """Return the paths of each cluster, by the name of its folder: its label, and its name if it has one."""
    groups: dict[str, list[str]] = {}
    for path, label in zip(found.paths, found.labels.tolist(), strict=True):
        name = found.clusters[label].name
        groups.setdefault(f"{label} {name}" if name else str(label), []).append(path)
    return groups
