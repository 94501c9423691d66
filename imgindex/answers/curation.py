"""What is found by curating: duplicates, what is known of other files, and leaks between sets."""

from __future__ import annotations

from dataclasses import dataclass

from imgindex.types import Failure


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An image of a group, beside the one that is kept.

    how: kept; exact, the same bytes; near; or same file, where both paths lead to one. distance: to the kept one,
    Euclidean. turned: how it is to be turned to come so near, "" for not at all. width, height: pixels, upright; size:
    bytes. sharpness: see `sharpness.measure`, None where nobody asked. problem: why it cannot be read now, else "".
    """

    path: str
    how: str
    distance: float
    turned: str
    width: int
    height: int
    size: int
    mtime_ns: int
    sharpness: float | None
    problem: str
    id: int

    @property
    def spare(self) -> bool:
        """Whether the kept image stands for this one, which is a file of its own and as it was when it was added."""
        return self.how in ("exact", "near") and not self.problem


@dataclass(frozen=True, slots=True)
class Group:
    """Images that duplicate each other: the one to keep and `why`, and the others, nearest first."""

    kept: Duplicate
    others: tuple[Duplicate, ...]
    why: str

    @property
    def images(self) -> tuple[Duplicate, ...]:
        """The kept one, and the others."""
        return (self.kept, *self.others)

    @property
    def spare(self) -> tuple[Duplicate, ...]:
        """The others that one can do without: none, where the kept one itself cannot be read."""
        return () if self.kept.problem else tuple(one for one in self.others if one.spare)


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The groups of duplicates among `images`, the largest first.

    distance: how near an image must be to its group's centre, None where bytes alone were compared. failures: images
    that were to be turned and could not be read.
    """

    groups: tuple[Group, ...]
    images: int
    distance: float | None
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    """What an index knows of a file: `status` is new, exact or near, or failed with the reason.

    match: the image that has the same bytes, or is nearest, at this distance; None, as its id, in an empty index.
    turned: how the file is to be turned to come so near, "" for not at all.
    """

    path: str
    status: str
    match: str | None = None
    distance: float | None = None
    turned: str = ""
    id: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Leak:
    """An image of one set and one of another that are the same bytes (exact) or near; their distance, Euclidean."""

    rank: int
    a: str
    b: str
    how: str
    distance: float
    a_id: int
    b_id: int
