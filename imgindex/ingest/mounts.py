"""Checks that the folders to add are there: that they can be read, and that their disks are mounted.

A mount point without its disk is an empty folder that can be read. It must not be taken for a folder that was emptied.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping

from imgindex.errors import PathNotFound
from imgindex.sources.registry import check_root, gone
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.paths import absolute, is_under
from imgindex.types import Path

NOT_PERMITTED_HINT = "change its permissions, or leave it out (nothing was changed)"


def check_roots(paths: Iterable[Path]) -> tuple[str, ...]:
    """Return the paths made absolute. Raises PathNotFound if one is missing or cannot be read, UsageError for ""."""
    roots = []
    for path in paths:
        root = absolute(path)
        try:
            check_root(root)
        except OSError as error:
            hint = NOT_PERMITTED_HINT if isinstance(error, PermissionError) else None
            raise PathNotFound(f"cannot read {os.fspath(path)}: {error.strerror}", hint=hint) from error
        except ValueError as error:
            raise PathNotFound(f"cannot read {os.fspath(path)!r}: {error}") from error
        roots.append(root)
    return tuple(roots)


def missing_mounts(catalogue: Catalogue) -> dict[str, str]:
    """Return the roots whose disk seems not to be mounted, each with the mount point that the disk had.

    Such a root's folder was a mount point or lay below one, which it no longer is, and all images below it are missing.
    """
    unmounted = {root: mount for root, mount in catalogue.ledger.mounts().items() if not os.path.ismount(mount)}
    if not unmounted:
        return unmounted
    below = {root: [path for _, path, _ in catalogue.each_place([root]) if is_under(path, root)] for root in unmounted}
    return {
        root: unmounted[root] for root, paths in below.items() if paths and len(paths) == sum(1 for _ in gone(paths))
    }


def check_roots_are_mounted(roots: Iterable[str], missing: Mapping[str, str]) -> None:
    """Raise PathNotFound for a root that is among those of `missing_mounts`."""
    for root in roots:
        if root in missing:
            raise PathNotFound(
                f"all images of {root} are missing, and no disk is mounted at {missing[root]} as before",
                hint=f"mount it; if they are gone for good, remove them: imgindex remove {shlex.quote(root)}",
            )


def record_mounts(catalogue: Catalogue, roots: Iterable[str]) -> None:
    """Record the roots in the ledger, each with the mount point of its disk."""
    ledger, index = catalogue.ledger, os.path.realpath(catalogue.path)
    known_roots, known_mounts = set(ledger.roots()), ledger.mounts()
    mounts = {root: mount_point(root) for root in roots}
    # The index's own disk needs no record: it is mounted whenever the index is read.
    recorded = {root: None if is_under(index, mount) else mount for root, mount in mounts.items()}
    changed = {
        root: mount for root, mount in recorded.items() if root not in known_roots or known_mounts.get(root) != mount
    }
    if changed:
        with catalogue.atomic():
            ledger.add_roots(changed)


def mount_point(path: str) -> str:
    """Return the folder where the disk that holds a path is mounted."""
    folder = os.path.realpath(path)
    while not os.path.ismount(folder):
        folder = os.path.dirname(folder)
    return folder
