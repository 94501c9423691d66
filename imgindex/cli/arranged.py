"""What a folder of links or copies has become, told on stderr."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from imgindex.cli.output import remark, show_failures

if TYPE_CHECKING:
    from imgindex.reports.folders import Arrangement


def show(arrangement: Arrangement, *, quiet: bool) -> None:
    """Say how many links or copies there are now, each one in a dry run, and which names were somebody else's."""
    from imgindex.reports.formats import printable

    thing = "copies" if arrangement.copies else "links"
    if arrangement.dry_run:
        for verb, entries in (("make", arrangement.made), ("keep", arrangement.kept), ("remove", arrangement.removed)):
            for one in entries:
                place = printable(os.path.join(arrangement.where, one.name))
                remark(f"would {verb} {place} → {printable(one.image)}", quiet=quiet)
    for name in arrangement.avoided:
        remark(f"{printable(name)} is there and not of imgindex: left as it is, another name was taken", quiet=quiet)
    show_failures(arrangement.failures, 0, quiet=quiet)
    counts = f"{len(arrangement.made)} made, {len(arrangement.kept)} kept, {len(arrangement.removed)} removed"
    would = "would be: " if arrangement.dry_run else ""
    remark(f"{thing} in {printable(arrangement.where)}: {would}{counts}", quiet=quiet)
