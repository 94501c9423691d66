"""What people say of images: tags by name, and a table of metadata that is joined by ImageID."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imgindex.errors import PathNotFound, UsageError
from imgindex.reports.submission import image_ids
from imgindex.selecting import select
from imgindex.storage import tags
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.paths import under
from imgindex.storage.store import Store

# A table of a million images with a hundred columns has so many bytes.
LARGEST = 1 << 30
MOST_COLUMNS = 1000
# What numbers are written with; what begins with a plus may be a telephone.
NUMBERS = frozenset("0123456789+-.eE")

Wait = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class TagReport:
    """What one `tag` did: how many images were named, and of how many the tag was put on, or taken off."""

    tag: str
    images: int
    changed: int


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import of metadata did: its columns, the images that have them now, and ids that no image has."""

    columns: tuple[str, ...]
    images: int
    unknown: tuple[str, ...]


def tag(
    store: Store, name: str, paths: Sequence[str] | None, where: str | None, *, remove: bool, wait: Wait
) -> TagReport:
    """Put a tag on images, those below a folder too, or take it off; paths are absolute.

    Raises UsageError for what is no tag, and for neither paths nor a condition, or both; PathNotFound; IndexLocked.
    """
    if not tags.is_tag(name):
        hint = f"a tag is printable, has no comma and at most {tags.LONGEST} characters"
        raise UsageError(f"{name!r} is no tag", hint=hint)
    if (paths is None) == (where is None):
        raise UsageError("name the images by paths, or by a condition with --where")
    with store.writing(wait=wait) as writer:
        ids = _named(writer.catalogue, paths) if paths is not None else _fulfilling(store, where)
        change = tags.remove_tag if remove else tags.add_tag
        with writer.catalogue.atomic():
            changed = change(writer.catalogue, name, ids)
    return TagReport(name, len(ids), changed)


def import_csv(store: Store, path: str, kind: str, *, wait: Wait) -> ImportReport:
    """Join the columns of a CSV to images by its first column, all in one commit; an empty value takes one away.

    kind: what that column is, stem, name or path. Text that is written as a number becomes one.
    Raises UsageError, and changes nothing, for what is no such table, or images with the same id.
    """
    header, rows = _read(path)
    with store.writing(wait=wait) as writer:
        stored = writer.catalogue.paths.stored
        ids = {os.fsdecode(stored(path)): id for id, path in writer.catalogue.each_path()}
        known = image_ids(list(ids), kind)
        found = {ids[known[row[0]]]: [_value(text) for text in row[1:]] for row in rows if row[0] in known}
        if found:
            with writer.catalogue.atomic():
                tags.describe(writer.catalogue, header[1:], found)
    return ImportReport(tuple(header[1:]), len(found), tuple(row[0] for row in rows if row[0] not in known))


def _named(catalogue: Catalogue, paths: Sequence[str]) -> list[int]:
    """The ids of the images at these absolute paths or below them. Raises PathNotFound where there is none."""
    places = {catalogue.paths.canonical(path).rstrip("/"): path for path in paths}
    is_named = under(places)
    named = {id: path for id, path in catalogue.each_path() if is_named(path)}
    covered = {""} if named else set[str]()
    for path in named.values():
        while path not in covered:
            covered.add(path)
            path = path[: path.rfind("/")]  # noqa: PLW2901  upwards
    missing = next((path for place, path in places.items() if place not in covered), None)
    if missing is not None:
        raise PathNotFound(f"the index has no image at {missing}", hint="`imgindex list` tells what it has")
    return list(named)


def _fulfilling(store: Store, where: str | None) -> list[int]:
    ids = select(store, where)
    return [] if ids is None else ids.tolist()


def _read(path: str) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a CSV, as text. Raises UsageError."""
    size = os.path.getsize(path)
    if size > LARGEST:
        raise UsageError(f"{path} has {size:,} bytes, and a table may have {LARGEST:,}")
    with open(path, "rb") as file:
        data = file.read(LARGEST)
    try:
        text = data.decode("utf-8-sig")
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not in UTF-8: {error}", hint="save it as CSV in UTF-8") from error
    except (csv.Error, ValueError) as error:
        raise UsageError(f"{path} is no CSV with a header: {error}") from error
    _check(path, header, rows)
    return header, rows


def _check(path: str, header: list[str], rows: list[list[str]]) -> None:
    hint = "its header should be like ImageID,width,label"
    odd = next((number for number, row in enumerate(rows, 2) if len(row) != len(header)), None)
    if odd is not None:
        raise UsageError(f"row {odd} of {path} has another number of columns than the header", hint=hint)
    if not 2 <= len(header) <= MOST_COLUMNS:
        raise UsageError(f"{path} has {len(header)} columns, and needs 2 to {MOST_COLUMNS}", hint=hint)
    seen: set[str] = set()
    for key in header[1:]:
        if not tags.is_key(key) or key.casefold() in seen:
            what = "stands there twice" if key.casefold() in seen else "is no name"
            raise UsageError(f"{key!r} {what} in the header of {path}", hint=hint)
        seen.add(key.casefold())
    ids: set[str] = set()
    for row in rows:
        if row[0] in ids:
            raise UsageError(f"{path} has {row[0]!r} more than once")
        ids.add(row[0])
        long = next((text for text in row if len(text) > tags.LONGEST_VALUE or "\0" in text), None)
        if long is not None:
            raise UsageError(f"{path} has a value of {row[0]!r} that is no text of a table: {long[:40]!r}…")


def _value(text: str) -> tags.Value | None:
    """The number that a text is written as, if its digits stand for themselves alone; a postal code 007 stays text."""
    if not text:
        return None
    bare = text.removeprefix("-")
    if not set(text) <= NUMBERS or text[0] == "+" or (bare[:1] == "0" and bare[1:2].isdigit()):
        return text
    try:
        whole = int(text)
        return whole if -(2**63) <= whole < 2**63 else text
    except ValueError:
        pass
    try:
        real = float(text)
        return real if abs(real) < float("inf") else text
    except ValueError:
        return text
