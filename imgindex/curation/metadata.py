"""Tags of images, and metadata that is imported from a CSV and joined to images by ImageID."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from imgindex.errors import PathNotFound, UsageError
from imgindex.export.csv_input import parse_csv, read_text
from imgindex.export.submission import image_ids, match_ids
from imgindex.results import ImportReport, TagChange, TagReport
from imgindex.search.filters import select
from imgindex.storage import tags
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.named import find_named
from imgindex.storage.paths import nfc, path_text
from imgindex.storage.store import Store
from imgindex.types import Path

EXAMPLE = "ImageID,width,label"
# The characters of numbers. A text that begins with a plus may be a telephone number.
NUMBERS = frozenset("0123456789+-.eE")

Wait = Callable[[], bool]


def tag(
    store: Store, name: str, paths: Sequence[str] | None, where: str | None, *, remove: bool, wait: Wait
) -> TagReport:
    """Put a tag on images, or take it off: on those at the absolute paths or below them, or those that fulfil `where`.

    Raises UsageError for an impossible tag, and unless paths or a condition are given, not both; PathNotFound;
    IndexLocked.
    """
    _check_tag(name)
    if (paths is None) == (where is None):
        raise UsageError("a tag needs images", hint="name them by their paths, or by a condition with `where=`")
    with store.writing(wait=wait) as writer:
        ids = _ids_below(writer.catalogue, paths) if paths is not None else _ids_where(store, where)
        change = tags.remove_tag if remove else tags.add_tag
        with writer.catalogue.atomic():
            changed = change(writer.catalogue, name, ids)
    return TagReport(name, len(ids), changed)


def change_tags(
    store: Store, ids: Iterable[int], *, add: Sequence[str], remove: Sequence[str], wait: Wait
) -> TagChange:
    """Put tags on the images with these ids and take others off, in one commit.

    Raises UsageError for an impossible tag, or one that is in both; PathNotFound (and changes nothing) for an id that
    no image has; IndexLocked.
    """
    for name in (*add, *remove):
        _check_tag(name)
    if both := set(add) & set(remove):
        raise UsageError(f"the tag {min(both)!r} cannot be put on and taken off at once")
    wanted = list(dict.fromkeys(ids))
    with store.writing(wait=wait) as writer:
        # Of these images alone: to read the ids of all would take longer than all else.
        present = writer.catalogue.image_paths(wanted)
        missing = next((id for id in wanted if id not in present), None)
        if missing is not None:
            raise PathNotFound(f"the index has no image with the id {missing}", hint="`imgindex list` shows the ids")
        known = tags.tags_by_image(writer.catalogue, wanted)
        added = {name: tuple(id for id in wanted if name not in known.get(id, ())) for name in dict.fromkeys(add)}
        removed = {name: tuple(id for id in wanted if name in known.get(id, ())) for name in dict.fromkeys(remove)}
        with writer.catalogue.atomic():
            for name, changed in added.items():
                tags.add_tag(writer.catalogue, name, changed)
            for name, changed in removed.items():
                tags.remove_tag(writer.catalogue, name, changed)
    return TagChange(len(wanted), added, removed)


def import_csv(store: Store, path: Path, id_kind: str, *, wait: Wait) -> ImportReport:
    """Join the columns of a CSV to images by its first column, all in one commit; an empty value removes a value.

    id_kind: what the first column holds, stem, name or path. Text that is written as a number becomes one.
    Raises UsageError, and changes nothing, for a file that is not such a table, or images with the same id.
    """
    header, rows = _read_table(path_text(path))
    with store.writing(wait=wait) as writer:
        stored = writer.catalogue.paths.stored
        ids = {os.fsdecode(stored(path)): id for id, path in writer.catalogue.each_path()}
        base = os.path.dirname(store.path)
        known = {id: writer.catalogue.paths.absolute(path) for id, path in image_ids(list(ids), id_kind).items()}
        by_path = {writer.catalogue.paths.absolute(path): id for path, id in ids.items()}
        found = match_ids(
            (row[0] for row in rows), known, header=header[0], kind=id_kind, relative_to=base, error=UsageError
        )
        values = {by_path[known[found[row[0]]]]: [_value(text) for text in row[1:]] for row in rows if row[0] in found}
        if values:
            with writer.catalogue.atomic():
                tags.set_metadata(writer.catalogue, header[1:], values)
    return ImportReport(tuple(header[1:]), len(values), tuple(row[0] for row in rows if row[0] not in found))


def _check_tag(name: str) -> None:
    if not tags.is_tag(name):
        hint = f"a tag is printable, has no comma and at most {tags.LONGEST} characters"
        raise UsageError(f"{name!r} cannot be a tag", hint=hint)


def _ids_below(catalogue: Catalogue, paths: Sequence[str]) -> list[int]:
    """Return the ids of the images at absolute paths or below them. Raises PathNotFound for a path without an image."""
    named = find_named(catalogue, paths)
    for path in named.unknown:
        raise PathNotFound(f"the index has no image at {path}", hint="`imgindex list` shows the images that it has")
    return named.images


def _ids_where(store: Store, where: str | None) -> list[int]:
    ids = select(store, where)
    return [] if ids is None else ids.tolist()


def _read_table(path: str) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a CSV. Raises UsageError, OSError."""
    try:
        text = read_text(path, errors="strict")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not in UTF-8: {error}", hint="save it as CSV in UTF-8") from error
    header, rows = parse_csv(text, path, example=EXAMPLE)
    _check_header(path, header)
    _check_values(path, rows)
    return header, rows


def _check_header(path: str, header: list[str]) -> None:
    hint = f"its header should be like {EXAMPLE}"
    if len(header) > tags.MOST_KEYS:
        raise UsageError(f"{path} has {len(header):,} columns; a table may have {tags.MOST_KEYS:,}", hint=hint)
    seen: set[str] = set()
    for key in header[1:]:
        if nfc(key).casefold() in seen:
            raise UsageError(f"the header of {path} has the column {key!r} twice", hint=hint)
        if not tags.is_key(key):
            raise UsageError(f"{key!r} in the header of {path} cannot be the name of a column", hint=hint)
        seen.add(nfc(key).casefold())


def _check_values(path: str, rows: list[list[str]]) -> None:
    ids: set[str] = set()
    for row in rows:
        if row[0] in ids:
            raise UsageError(f"{path} has {row[0]!r} more than once", hint="keep one row for each ImageID")
        ids.add(row[0])
        wrong = next((text for text in row if len(text) > tags.LONGEST_VALUE or "\0" in text), None)
        if wrong is not None:
            raise UsageError(
                f"{path} has a value of {row[0]!r} that cannot be stored: {wrong[:40]!r}…",
                hint=f"a value has at most {tags.LONGEST_VALUE:,} characters, and no NUL",
            )


def _value(text: str) -> tags.Value | None:
    """Return the number that a text is written as, or else the text: a postal code such as 007 stays text."""
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
