"""Groups of duplicates as the tests compare them."""

from __future__ import annotations

from pathlib import Path

from imgindex.results import Group


def only(groups: tuple[Group, ...]) -> dict[str, tuple[str, str]]:
    """For each file of the only group: how it is a duplicate, and how it was turned."""
    (group,) = groups
    return {Path(one.path).name: (one.how, one.turned) for one in group.images}
