"""Numbers and paths as text for a reader."""

from __future__ import annotations

import os

from imgindex.export.tables import printable


def percent(share: float) -> str:
    """Return a share 0…1 in percent; only 0 and 1 themselves are written as 0 % and 100 %."""
    if share in (0.0, 1.0):
        return f"{100 * share:.0f}\u00a0%"
    value = 100 * share
    if value < 1 or value > 99:
        return f"{min(max(value, 0.01), 99.99):.2f}\u00a0%"
    return f"{value:.1f}\u00a0%"


def rank_among_pairs(farther: float | None) -> str:
    """Return what it means for two images that this share 0…1 of all pairs is farther apart."""
    if farther is None:
        return ""
    if farther in (0.0, 1.0):
        return "nearer than any other pair" if farther else "farther than any other pair"
    if farther >= 0.5:
        return f"nearer than {percent(farther)} of all pairs"
    return f"farther than {percent(1 - farther)} of all pairs"


def rank_among_images(farther: float) -> str:
    """Return the same for an image and a centroid, short enough to stand below a small picture."""
    if farther in (0.0, 1.0):
        return "nearest of all" if farther else "farthest of all"
    return f"nearer than {percent(farther)}" if farther >= 0.5 else f"farther than {percent(1 - farther)}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or the plural."""
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def distance(value: float) -> str:
    return f"{value:.3f}"


def file_name(path: str) -> str:
    return printable(os.path.basename(path) or path)


def folder(path: str) -> str:
    """Return the folder of a path with a slash at its end, or nothing for a bare file name."""
    head = os.path.dirname(path)
    return printable(head) + "/" if head and head != "/" else printable(head)
