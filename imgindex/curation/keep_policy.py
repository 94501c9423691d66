"""Which image of a group is kept, and why: each rule in turn leaves only the images that it prefers.

Every file of a group is read again here, and compared with the bytes that were added: only a file that is still the
same can be kept or be disposable.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from imgindex.curation import sharpness
from imgindex.curation.borders import content_box
from imgindex.curation.verification import CHANGED
from imgindex.decoding.header import FileHeader, read_header
from imgindex.decoding.lookahead import map_ahead, worker_count
from imgindex.decoding.plugins import RAW_ENDINGS
from imgindex.decoding.pool import DecoderPool
from imgindex.decoding.transforms import crop_border
from imgindex.errors import UnreadableImage, UsageError
from imgindex.recipe import Recipe
from imgindex.sources.registry import hash_file, is_own_file, read_content, where
from imgindex.storage.paths import real_path
from imgindex.types import Image, OnProgress, counted

Result = TypeVar("Result")
# Files that are read at once to compare them with what was added.
VERIFIED_AHEAD = 64

POLICIES = ("original", "largest", "sharpest", "oldest")
# Sharpness is compared at this longer side in pixels: a small picture that was scaled up to it is blurred.
SIDE = 1024
# Borders are found at this longer side, exact to a pixel of it. Two areas that differ less are equal where one of the
# pictures has a border.
BORDER_SIDE, SAME_AREA = 512, 0.03
# Kinds of files by what they can be made from: a JPEG is made from a HEIC or a raw file, never the other way round.
RAW, HEIC, OTHER = 0, 1, 2
KINDS = {RAW: "a camera raw file", HEIC: "HEIC"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image that may be kept, and its file as it is now.

    problem: why the file is neither kept nor disposable: it cannot be read, or has other bytes than were added; else
    "". file: device and inode, equal for two paths of one file. is_link: whether the path leads through a symbolic
    link. is_own: whether it is a file of its own on this machine. area: pixels inside the borders; None where it
    was not measured. why: why it is kept, or why another one is. protected: why it is not disposable although the kept
    one has the same picture, else "". frees: bytes that are free without it; 0 where another path of the group leads to
    the same file.
    """

    image: Image
    problem: str = ""
    file: tuple[int, int] | None = None
    is_link: bool = False
    is_own: bool = True
    header: FileHeader = field(default_factory=FileHeader)
    preference: int = 0
    sharpness: float | None = None
    area: float | None = None
    why: str = ""
    protected: str = ""
    frees: int = 0

    @property
    def kind(self) -> int:
        """RAW, HEIC or OTHER."""
        ending = os.path.splitext(self.image.path)[1].lower()
        if self.image.format == "RAW" or ending in RAW_ENDINGS:
            return RAW
        return HEIC if self.image.format == "HEIF" else OTHER

    @property
    def pixels(self) -> int:
        return self.image.width * self.image.height

    @property
    def has_border(self) -> bool:
        return self.area is not None and self.area < self.pixels

    @property
    def inner_pixels(self) -> float:
        """The pixels inside the borders; of the whole picture where that was not measured."""
        return self.pixels if self.area is None else self.area


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: the images with the least key stay in the choice.

    phrase: why the first image stays, and not the second. measures: the key is the area inside the borders.
    """

    key: Callable[[Candidate], float | str]
    phrase: Callable[[Candidate, Candidate], str]
    measures: bool = False


def check_policy(keep: str, prefer: Sequence[str] = ()) -> None:
    """Raise UsageError unless `keep` is one of the policies, and the globs are not empty."""
    if keep not in POLICIES:
        raise UsageError(f"{keep!r} is not a rule for what to keep", hint=f"choose one of: {', '.join(POLICIES)}")
    if "" in prefer:
        raise UsageError("an empty glob prefers nothing", hint="is a variable empty? Write for example '*/originals/*'")


class KeepPolicy:
    """Chooses which image of a group to keep, by the rules of a policy; prefer: globs that come before these rules.

    Raises UsageError for an unknown policy or an empty glob.
    """

    def __init__(self, keep: str, prefer: Sequence[str], recipe: Recipe, on_progress: OnProgress) -> None:
        check_policy(keep, prefer)
        self._keep, self._prefer, self._recipe, self._on_progress = keep, prefer, recipe, on_progress
        self._rules = _rules(keep)
        self._areas: dict[int, float] = {}

    def inspect(self, images: Sequence[Image]) -> list[Candidate]:
        """Return the candidates for images, in their order; every file is read. Raises DecoderUnavailable."""
        with ThreadPoolExecutor(worker_count(None), thread_name_prefix="imgindex-verify") as pool:
            each = map_ahead(pool, inspect, images, depth=VERIFIED_AHEAD)
            verified = counted(each, len(images), "verify", self._on_progress, every=1)
            found = [replace(one, preference=_preference(one.image.path, self._prefer)) for one in verified]
        if self._keep != "sharpest":
            return found
        return list(counted(with_sharpness(found, self._recipe), len(found), "sharpness", self._on_progress, every=1))

    def ranked(self, groups: Sequence[Sequence[Candidate]]) -> list[list[Candidate]]:
        """Return the candidates of each group, the one to keep first, with the reasons; pictures may be decoded."""
        unsettled = {one.image.id: one for group in groups for one in _to_measure(group, self._rules)}
        new = [one for id, one in unsettled.items() if id not in self._areas]
        if new:
            self._areas.update(counted(_areas(new, self._recipe), len(new), "find borders", self._on_progress, every=1))
        areas = self._areas
        return [_ranked([replace(one, area=areas.get(one.image.id)) for one in group], self._rules) for group in groups]


def inspect(image: Image) -> Candidate:
    """Return the candidate for an image, after reading its file."""
    try:
        read = hash_file(image.path)
    except UnreadableImage as error:
        return Candidate(image, error.reason, is_link=_is_link(image.path), is_own=is_own_file(image.path))
    problem = "" if read.sha256.hex() == image.sha256 else CHANGED
    header = FileHeader() if problem else read_header(image.path)
    return Candidate(image, problem, (read.device, read.inode), _is_link(image.path), is_own_file(image.path), header)


def _is_link(path: str) -> bool:
    return real_path(path) != path


def _preference(path: str, prefer: Sequence[str]) -> int:
    """Return the place of the first glob that a path matches, by its end or as a folder; after the last one if none."""
    for place, glob in enumerate(prefer):
        wanted = os.path.expanduser(glob).rstrip("/")
        globs = (wanted, f"*/{wanted}", f"{wanted}/*", f"*/{wanted}/*")
        if any(fnmatch.fnmatchcase(path, one) for one in globs):
            return place
    return len(prefer)


# The rules.


def _rules(keep: str) -> list[Rule]:
    """Return the rules of a policy in their order."""
    first = [
        Rule(lambda one: bool(one.problem), lambda kept, other: "the only one that can be read now"),
        Rule(lambda one: one.preference, lambda kept, other: "preferred by a glob"),
        Rule(lambda one: one.is_link, lambda kept, other: "the file itself, not a link"),
        Rule(lambda one: not one.is_own, lambda kept, other: "a file of its own on this machine"),
    ]
    largest = [
        Rule(lambda one: -one.inner_pixels, _phrase_pixels, measures=True),
        Rule(lambda one: one.has_border, lambda kept, other: "without the border of the next"),
    ]
    last = [
        Rule(lambda one: -one.image.size, lambda kept, other: f"{_bytes(kept)}, the next {_bytes(other)}"),
        Rule(lambda one: one.image.path, lambda kept, other: "equal to the next, and before it in the order of paths"),
    ]
    age = Rule(lambda one: one.image.mtime_ns, _phrase_age)
    by_policy = {
        "original": [
            Rule(lambda one: not _has_camera(one), lambda kept, other: "has the EXIF of a camera, the next has not"),
            Rule(lambda one: one.kind, lambda kept, other: f"{KINDS[kept.kind]}, the next {_kind(other)}"),
            *largest,
            Rule(lambda one: not one.header.is_lossless, lambda kept, other: f"lossless, the next {_kind(other)}"),
            Rule(lambda one: one.header.taken or "9999", _phrase_taken),
            age,
        ],
        "largest": largest,
        "sharpest": [
            Rule(
                lambda one: -(one.sharpness or 0.0),
                lambda kept, other: f"sharpest: {kept.sharpness or 0:.4f}, the next {other.sharpness or 0:.4f}",
            ),
            *largest,
        ],
        "oldest": [age],
    }
    return [*first, *by_policy[keep], *last]


def _has_camera(one: Candidate) -> bool:
    return one.header.has_camera or one.kind == RAW


def _phrase_pixels(kept: Candidate, other: Candidate) -> str:
    inside = " inside its border" if kept.has_border else ""
    of_other = " inside its border" if other.has_border else ""
    return f"largest: {_size(kept)} pixels{inside}, the next {_size(other)} pixels{of_other}"


def _phrase_taken(kept: Candidate, other: Candidate) -> str:
    if not other.header.taken:
        return f"has a capture date, {kept.header.taken}, the next has none"
    return f"taken earlier: {kept.header.taken}, the next {other.header.taken}"


def _kind(one: Candidate) -> str:
    return KINDS.get(one.kind) or (one.image.format or "another format")


def _bytes(one: Candidate) -> str:
    return f"{one.image.size:,} bytes"


def _size(one: Candidate) -> str:
    scale = (one.inner_pixels / one.pixels) ** 0.5
    if one.has_border:
        return f"about {round(one.image.width * scale)} × {round(one.image.height * scale)}"
    return f"{one.image.width} × {one.image.height}"


def _phrase_age(kept: Candidate, other: Candidate) -> str:
    """Say when both were written: to the second, or to the millisecond within one second."""
    is_close = kept.image.mtime_ns // 10**9 == other.image.mtime_ns // 10**9
    earlier, later = (_moment(one, "milliseconds" if is_close else "seconds") for one in (kept, other))
    return f"oldest: {earlier}, the next {later}"


def _moment(one: Candidate, precision: str) -> str:
    try:
        return datetime.fromtimestamp(one.image.mtime_ns / 10**9).isoformat(" ", precision)
    except (ValueError, OverflowError, OSError):  # a file system may hold any number
        return f"{one.image.mtime_ns / 10**9:.3f} s"


# The choice.


def _apply(rule: Rule, left: list[Candidate]) -> list[Candidate]:
    """Return the candidates that a rule leaves, at least one."""
    best = min(map(rule.key, left))
    if rule.measures and any(one.has_border for one in left) and isinstance(best, float | int):
        return [one for one in left if one.inner_pixels >= -best * (1 - SAME_AREA)]
    return [one for one in left if rule.key(one) == best]


def _to_measure(group: Sequence[Candidate], rules: Sequence[Rule]) -> list[Candidate]:
    """Return the candidates that are left when pixels decide, if they may differ in their borders."""
    left = list(group)
    for rule in rules:
        if rule.measures:
            break
        left = _apply(rule, left)
    else:
        return []
    return left if len({one.image.sha256 for one in left}) > 1 else []


def _ranked(group: list[Candidate], rules: Sequence[Rule]) -> list[Candidate]:
    """Return the candidates, the one to keep first, with what the rules say of each."""
    left, losers = group, list[tuple[Candidate, Rule]]()
    for rule in rules:
        stay = _apply(rule, left)
        losers += [(one, rule) for one in left if one not in stay]
        left = stay
    kept = left[0]
    others, files = [], {kept.file}
    for one, rule in losers:
        why = one.problem or f"another one is kept: {rule.phrase(kept, one)}"
        frees = one.image.size if one.is_own and one.file not in files else 0
        files.add(one.file)
        others.append(replace(one, why=why, protected=_protected(one, kept), frees=frees))
    return [replace(kept, why=_why_kept(kept, losers)), *others]


def _why_kept(kept: Candidate, losers: Sequence[tuple[Candidate, Rule]]) -> str:
    """Return why an image is kept, against the one that the rules left longest and that is another file."""
    if kept.problem:
        return "none of them can be read now"
    rivals = [(one, rule) for one, rule in losers if not one.problem]
    if not rivals:
        return "the only one that can be read now"
    rival, rule = next((pair for pair in reversed(rivals) if pair[0].file != kept.file), rivals[-1])
    return rule.phrase(kept, rival)


def _protected(one: Candidate, kept: Candidate) -> str:
    if not one.is_own:
        return f"it is {where(one.image.path)}, from where no image can be moved"
    if os.path.islink(one.image.path):
        return "a link, which takes no space"
    if one.image.sha256 == kept.image.sha256:
        return ""
    if one.kind < kept.kind or one.kind == RAW:
        return f"{KINDS[one.kind]}: an original is not a copy of what was made from it"
    if one.header.has_more or one.image.format == "MPO":
        return "it holds more than this picture: pages, frames or a film"
    return ""


# What needs the pixels.


def with_sharpness(candidates: Sequence[Candidate], recipe: Recipe) -> Iterator[Candidate]:
    """Yield the candidates with their sharpness, in order; one that cannot be decoded has the reason as its problem."""
    large = replace(recipe, side=SIDE, geometry="letterbox", channels="rgb")
    decoders = DecoderPool(large)

    def measured(one: Candidate) -> Candidate:
        if one.problem:
            return one
        try:
            picture = decoders.decode(read_content(one.image.path).data)
        except UnreadableImage as error:
            return replace(one, problem=error.reason)
        pixels = crop_border(picture.pixels, large, picture.width, picture.height)
        return replace(one, sharpness=sharpness.measure(pixels))

    yield from _decode_each(measured, candidates, decoders)


def _areas(candidates: Sequence[Candidate], recipe: Recipe) -> Iterable[tuple[int, float]]:
    """Yield ids with the pixels of the picture inside its borders; of the whole picture if it cannot be decoded."""
    decoders = DecoderPool(replace(recipe, side=BORDER_SIDE, geometry="reduced", channels="rgb"))

    def measured(one: Candidate) -> tuple[int, float]:
        try:
            picture = decoders.decode(read_content(one.image.path).data)
        except UnreadableImage:
            return one.image.id, one.pixels
        left, top, right, bottom = content_box(picture.pixels)
        share = (right - left) * (bottom - top) / (picture.pixels.shape[0] * picture.pixels.shape[1])
        return one.image.id, one.pixels * share

    return _decode_each(measured, candidates, decoders)


def _decode_each(
    measure: Callable[[Candidate], Result], candidates: Sequence[Candidate], decoders: DecoderPool
) -> Iterator[Result]:
    workers = worker_count(None)
    with ThreadPoolExecutor(workers, thread_name_prefix="imgindex-decode") as pool, contextlib.closing(decoders):
        yield from map_ahead(pool, measure, candidates, depth=2 * workers, size=lambda one: one.image.size)
