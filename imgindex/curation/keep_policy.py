"""Which image of a group is kept, and why: the largest, the sharpest or the oldest that can still be read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

from imgindex.curation import sharpness
from imgindex.curation.verification import CHANGED
from imgindex.decoding.lookahead import map_ahead, worker_count
from imgindex.decoding.pool import DecoderPool
from imgindex.decoding.transforms import crop_border
from imgindex.errors import UnreadableImage, UsageError
from imgindex.recipe import Recipe
from imgindex.sources.content import read_content
from imgindex.storage.records import clamp_int64
from imgindex.types import Image

POLICIES = ("largest", "sharpest", "oldest")
TIES = {"largest": "as large as", "sharpest": "as sharp as", "oldest": "as old as"}
# Sharpness is compared at this longer side in pixels: a small picture that was scaled up to it is blurred.
SIDE = 1024


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image that may be kept, and its file as it is today.

    problem: why the file cannot be read now, else "". file: device and inode, equal for two paths of one file. is_link:
    whether the path leads through a symbolic link.
    """

    image: Image
    problem: str
    file: tuple[int, int] | None
    is_link: bool
    sharpness: float | None = None


def inspect(image: Image) -> Candidate:
    """Return the candidate for an image, after a look at its file."""
    problem, file = "", None
    try:
        info = os.stat(image.path)
        file = info.st_dev, info.st_ino
        if (info.st_size, clamp_int64(info.st_mtime_ns)) != (image.size, image.mtime_ns):
            problem = CHANGED
        elif not os.access(image.path, os.R_OK):
            problem = "cannot be read"
    except OSError as error:
        problem = error.strerror or str(error)
    return Candidate(image, problem, file, os.path.realpath(image.path) != image.path)


def check_policy(keep: str) -> None:
    """Raise UsageError unless `keep` is one of the policies."""
    if keep not in POLICIES:
        raise UsageError(f"{keep!r} is not a rule for what to keep", hint=f"choose one of: {', '.join(POLICIES)}")


def ranked(candidates: Iterable[Candidate], keep: str) -> list[Candidate]:
    """Return candidates, the one to keep first: readable ones first, then files before links, then by the policy."""
    by_policy: dict[str, Callable[[Candidate], tuple[float, ...]]] = {
        "largest": lambda one: (-_pixels(one), -one.image.size),
        "sharpest": lambda one: (-(one.sharpness or 0.0), -_pixels(one), -one.image.size),
        "oldest": lambda one: (one.image.mtime_ns,),
    }
    return sorted(candidates, key=lambda one: (bool(one.problem), one.is_link, *by_policy[keep](one), one.image.id))


def explain(candidates: Sequence[Candidate], keep: str) -> str:
    """Return why the first of ranked candidates is kept, in figures, against the next one that can be read."""
    kept, *others = candidates
    if kept.problem:
        return "none of them can be read now"
    readable = [one for one in others if not one.problem]
    if not readable:
        return "the only one that can be read now"
    following = readable[0]
    if following.is_link and not kept.is_link:
        return "the file itself, not a link"
    figures = _figures(kept, keep)
    for figure, of_following in zip(figures, _figures(following, keep), strict=True):
        if figure != of_following:
            return f"{keep}: {figure}, the next {of_following}"
    return f"{TIES[keep]} the next, {figures[0]}, and before it in the index"


def with_sharpness(candidates: Sequence[Candidate], recipe: Recipe) -> Iterator[Candidate]:
    """Yield the candidates with their sharpness, in order; one that cannot be decoded has the reason as its problem."""
    large = replace(recipe, side=SIDE, geometry="letterbox", channels="rgb")
    decoders, workers = DecoderPool(large), worker_count(None)

    def measured(one: Candidate) -> Candidate:
        if one.problem:
            return one
        try:
            picture = decoders.decode(read_content(one.image.path).data)
        except UnreadableImage as error:
            return replace(one, problem=error.reason)
        pixels = crop_border(picture.pixels, large, picture.width, picture.height)
        return replace(one, sharpness=sharpness.measure(pixels))

    with ThreadPoolExecutor(workers, thread_name_prefix="imgindex-decode") as pool, contextlib.closing(decoders):
        yield from map_ahead(pool, measured, candidates, depth=2 * workers, size=lambda one: one.image.size)


def _pixels(one: Candidate) -> int:
    return one.image.width * one.image.height


def _figures(one: Candidate, keep: str) -> list[str]:
    """Return what the policy compares, as text, in the order in which it decides."""
    if keep == "oldest":
        return [_moment(one.image.mtime_ns)]
    figures = [f"{one.image.width} × {one.image.height} pixels", f"{one.image.size:,} bytes"]
    return [f"{one.sharpness or 0.0:.4f}", *figures] if keep == "sharpest" else figures


def _moment(mtime_ns: int) -> str:
    try:
        return datetime.fromtimestamp(mtime_ns / 10**9).isoformat(" ", "milliseconds")
    except (ValueError, OverflowError, OSError):  # a file system may hold any number
        return f"{mtime_ns / 10**9:.3f} s"
