"""Reads and writes tags, and metadata: the columns of imported tables. Both belong to the id of an image."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from imgindex.storage.catalogue import Catalogue
from imgindex.storage.connection import Kinds
from imgindex.storage.paths import StoredPath, nfc
from imgindex.storage.records import clamp_int64

# The first format of catalogues with tags and metadata.
SINCE = 3
LONGEST, LONGEST_KEY, LONGEST_VALUE, MOST_KEYS = 100, 200, 100_000, 1000
# No text of the catalogue has a NUL, or half of a character.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
VALUE = (str, int, float)

Value = str | float
Metadata = dict[int, dict[str, Value]]


def is_tag(tag: str) -> bool:
    """Whether it can be a tag: a few printable words without a comma, which separates tags."""
    return bool(tag) and len(tag) <= LONGEST and tag.isprintable() and "," not in tag and tag == tag.strip()


def is_key(key: str) -> bool:
    """Whether it can be the name of a column of metadata."""
    return bool(key) and len(key) <= LONGEST_KEY and key.isprintable()


def add_tag(catalogue: Catalogue, tag: str, ids: Iterable[int]) -> int:
    """Put a tag on images, and return how many did not have it; the caller commits."""
    before = catalogue.connection.total_changes
    catalogue.connection.executemany("insert or ignore into tags values (?, ?)", ((id, tag) for id in ids))
    return catalogue.connection.total_changes - before


def remove_tag(catalogue: Catalogue, tag: str, ids: Iterable[int]) -> int:
    """Take a tag off images, and return how many had it; the caller commits."""
    before = catalogue.connection.total_changes
    catalogue.connection.executemany("delete from tags where image = ? and tag = ?", ((id, tag) for id in ids))
    return catalogue.connection.total_changes - before


def count_tags(catalogue: Catalogue) -> dict[str, int]:
    """Return the number of present images with each tag, the most frequent tag first, then by name."""
    if catalogue.version < SINCE:
        return {}
    query = """select tag, count(*) from tags join images on images.id = tags.image where present
               group by tag order by 2 desc, 1"""
    return dict(catalogue.connection.rows((str, int), query))


def tags_by_image(catalogue: Catalogue, only: Iterable[int] | None = None) -> dict[int, tuple[str, ...]]:
    """Return the tags, in alphabetical order, of every image that has any, or of those with these ids."""
    found: dict[int, tuple[str, ...]] = {}
    for id, tag in _rows(catalogue, (int, str), "image, tag", "tags", only):
        found[id] = (*found.get(id, ()), tag)
    return found


def metadata_by_image(catalogue: Catalogue, only: Iterable[int] | None = None) -> Metadata:
    """Return the metadata (key → value) of every image that has any, or of those with these ids."""
    found: Metadata = {}
    for id, key, value in _rows(catalogue, (int, str, VALUE), "image, key, value", "metadata", only):
        found.setdefault(id, {})[key] = value
    return found


def _rows(
    catalogue: Catalogue, kinds: Kinds, columns: str, table: str, only: Iterable[int] | None
) -> Iterator[tuple[Any, ...]]:
    if catalogue.version < SINCE:
        return
    query, ordered = f"select {columns} from {table}", f"order by {', '.join(columns.split(', ')[:2])}"
    if only is None:
        yield from catalogue.connection.rows(kinds, f"{query} {ordered}")
        return
    for id in dict.fromkeys(map(clamp_int64, only)):
        yield from catalogue.connection.rows(kinds, f"{query} where image = ? {ordered}", (id,))


def metadata_keys(catalogue: Catalogue) -> list[str]:
    """Return the keys of metadata in alphabetical order."""
    query = "select distinct key from metadata order by key"
    return [key for (key,) in catalogue.connection.rows((str,), query)] if catalogue.version >= SINCE else []


def is_value(value: Value) -> bool:
    """Whether it can be a value of metadata."""
    if isinstance(value, str):
        return len(value) <= LONGEST_VALUE and UNSTORABLE.search(value) is None
    return math.isfinite(value)


class Spelling:
    """The keys of an index in the spelling that they have there: a condition does not distinguish ABC from abc."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._known = {nfc(key).casefold(): key for key in metadata_keys(catalogue)}

    def of(self, key: str) -> str:
        """Return the spelling of a key; a new one is known from now on."""
        return self._known.setdefault(nfc(key).casefold(), key)


def describe(catalogue: Catalogue, stored: StoredPath, metadata: Mapping[str, Value], spelling: Spelling) -> None:
    """Set metadata of the image at a stored path, without what cannot be a key or a value; the caller commits."""
    usable = {key: value for key, value in metadata.items() if is_key(key) and is_value(value)}
    row = catalogue.connection.execute("select id from images where path = ?", (stored,)).fetchone()
    rows = [(row[0], spelling.of(key), value) for key, value in list(usable.items())[:MOST_KEYS]] if row else []
    catalogue.connection.executemany("insert or replace into metadata values (?, ?, ?)", rows)


def set_metadata(catalogue: Catalogue, header: Sequence[str], rows: Mapping[int, Sequence[Value | None]]) -> None:
    """Set metadata of images; the caller commits.

    header: keys. rows: id → a value for each key; None removes the value. A key that exists in another spelling (ABC
    for abc) keeps that spelling, because a condition does not distinguish them.
    """
    spelling = Spelling(catalogue)
    spelled = [spelling.of(key) for key in header]
    run = catalogue.connection.executemany
    every = [(id, key, value) for id, row in rows.items() for key, value in zip(spelled, row, strict=True)]
    run("delete from metadata where image = ? and key = ?", ((id, key) for id, key, _ in every))
    run("insert into metadata values (?, ?, ?)", (row for row in every if row[2] is not None))
