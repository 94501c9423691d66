"""Which image of a group is kept, and why: the largest, the sharpest or the oldest that can still be read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

from imgindex.analysis import sharpness
from imgindex.curating.turning import CHANGED
from imgindex.embedding.pipeline import ahead, worker_count
from imgindex.embedding.prepare import without_border
from imgindex.embedding.recipe import Recipe
from imgindex.embedding.sandbox import Decoders
from imgindex.errors import UnreadableImage, UsageError
from imgindex.images.fingerprint import read_content
from imgindex.types import Image

KEEP = ("largest", "sharpest", "oldest")
AS = {"largest": "as large as", "sharpest": "as sharp as", "oldest": "as old as"}
# Sharpness is compared at so many pixels of the longer side: a small picture made as large as that is blurred.
SIDE = 1024


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image that may be kept, and its file as it is today: `file` tells files apart, `is_link` is of its path."""

    image: Image
    problem: str
    file: tuple[int, int] | None
    is_link: bool
    sharpness: float | None = None


def look(image: Image) -> Candidate:
    """Return a candidate, with what keeps its file from being read."""
    problem, file = "", None
    try:
        info = os.stat(image.path)
        file = info.st_dev, info.st_ino
        if (info.st_size, info.st_mtime_ns) != (image.size, image.mtime_ns):
            problem = CHANGED
        elif not os.access(image.path, os.R_OK):
            problem = "cannot be read"
    except OSError as error:
        problem = error.strerror or str(error)
    return Candidate(image, problem, file, os.path.realpath(image.path) != image.path)


def check_keep(keep: str) -> None:
    """Raise UsageError unless this is a way to choose."""
    if keep not in KEEP:
        raise UsageError(f"there is no way to keep {keep!r}", hint=f"choose one of: {', '.join(KEEP)}")


def in_order(candidates: Iterable[Candidate], keep: str) -> list[Candidate]:
    """Return candidates, the one to keep first: what can be read, files before links to them, then as it is wished."""
    wished: dict[str, Callable[[Candidate], tuple[float, ...]]] = {
        "largest": lambda one: (-_pixels(one), -one.image.size),
        "sharpest": lambda one: (-(one.sharpness or 0.0), -_pixels(one), -one.image.size),
        "oldest": lambda one: (one.image.mtime_ns,),
    }
    return sorted(candidates, key=lambda one: (bool(one.problem), one.is_link, *wished[keep](one), one.image.id))


def why(ordered: Sequence[Candidate], keep: str) -> str:
    """Say why the first one is kept, in figures, against the next one that can be read."""
    kept, *others = ordered
    if kept.problem:
        return "none of them can be read now"
    able = [one for one in others if not one.problem]
    if not able:
        return "the only one that can be read now"
    # What is the file itself beats what leads to it.
    following = able[0]
    if following.is_link and not kept.is_link:
        return "the file itself, not a link"
    mine, other = _figures(kept, keep), _figures(following, keep)
    for figure, of_other in zip(mine, other, strict=True):
        if figure != of_other:
            return f"{keep}: {figure}, the next {of_other}"
    return f"{AS[keep]} the next, {mine[0]}, and before it in the index"


def with_sharpness(candidates: Sequence[Candidate], recipe: Recipe) -> Iterator[Candidate]:
    """Yield the candidates with their sharpness, in order; what cannot be decoded gets that problem."""
    large = replace(recipe, side=SIDE, geometry="letterbox", channels="rgb")
    decoders, workers = Decoders(large), worker_count(None)

    def measured(one: Candidate) -> Candidate:
        if one.problem:
            return one
        try:
            picture = decoders.decode(read_content(one.image.path).data)
        except UnreadableImage as error:
            return replace(one, problem=error.reason)
        pixels = without_border(picture.pixels, large, picture.width, picture.height)
        return replace(one, sharpness=sharpness.measure(pixels))

    with ThreadPoolExecutor(workers, thread_name_prefix="imgindex-decode") as pool, contextlib.closing(decoders):
        yield from ahead(pool, measured, candidates, depth=2 * workers, size=lambda one: one.image.size)


def _pixels(one: Candidate) -> int:
    return one.image.width * one.image.height


def _figures(one: Candidate, keep: str) -> list[str]:
    """What is compared of a candidate, one after the other, in words."""
    size = f"{one.image.width} × {one.image.height} pixels"
    if keep == "oldest":
        return [_moment(one.image.mtime_ns)]
    figures = [size, f"{one.image.size:,} bytes"]
    return [f"{one.sharpness or 0.0:.4f}", *figures] if keep == "sharpest" else figures


def _moment(mtime_ns: int) -> str:
    try:
        return datetime.fromtimestamp(mtime_ns / 10**9).isoformat(" ", "milliseconds")
    except (ValueError, OverflowError, OSError):  # a file system may hold any number
        return f"{mtime_ns / 10**9:.3f} s"
