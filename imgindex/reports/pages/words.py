"""Numbers and names as a reader would have them said."""

from __future__ import annotations

import os

from imgindex.reports.formats import printable


def percent(share: float) -> str:
    """Say a share 0…1 in percent, never 0 or 100 for what is only close to it."""
    if share in (0.0, 1.0):
        return f"{100 * share:.0f}\u00a0%"
    value = 100 * share
    if value < 1 or value > 99:
        return f"{min(max(value, 0.01), 99.99):.2f}\u00a0%"
    return f"{value:.1f}\u00a0%"


def pairs(farther: float | None) -> str:
    """Say what a share of pairs that lie farther apart means."""
    if farther is None:
        return ""
    if farther in (0.0, 1.0):
        return "nearer than any other pair" if farther else "farther than any other pair"
    if farther >= 0.5:
        return f"nearer than {percent(farther)} of all pairs"
    return f"farther than {percent(1 - farther)} of all pairs"


def images(farther: float) -> str:
    """Say the same of a share of images, in the little room below one."""
    return f"nearer than {percent(farther)}" if farther >= 0.5 else f"farther than {percent(1 - farther)}"


def count(number: int, one: str, many: str | None = None) -> str:
    """Say how many there are of something."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def distance(value: float) -> str:
    return f"{value:.3f}"


def file_name(path: str) -> str:
    return printable(os.path.basename(path) or path)


def folder(path: str) -> str:
    """Say where a file lies, with the slash; nothing for the folder that one stands in."""
    head = os.path.dirname(path)
    return printable(head) + "/" if head and head != "/" else printable(head)
