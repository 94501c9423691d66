"""Numbers as text for a reader."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or the plural.

    >>> count(1, "image"), count(1200, "image")
    ('1 image', '1,200 images')
    """
    return f"{number:,} {noun if number == 1 else noun + 's'}"
