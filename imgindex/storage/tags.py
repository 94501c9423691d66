"""What people say of images: tags, and the columns of a table that was imported; both go with the image's id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from imgindex.storage.catalogue import Catalogue

# The format of catalogues that know of them.
SINCE = 3
LONGEST, LONGEST_KEY, LONGEST_VALUE = 100, 200, 100_000
VALUE = (str, int, float)

Value = str | float
Described = dict[int, dict[str, Value]]


def is_tag(tag: str) -> bool:
    """Whether it can be a tag: a few printable words without a comma, which stands between tags."""
    return bool(tag) and len(tag) <= LONGEST and tag.isprintable() and "," not in tag and tag == tag.strip()


def is_key(key: str) -> bool:
    """Whether it can be the name of a column of metadata."""
    return bool(key) and len(key) <= LONGEST_KEY and key.isprintable()


def add_tag(catalogue: Catalogue, tag: str, ids: Iterable[int]) -> int:
    """Give a tag to images, and return how many did not have it; the caller commits."""
    before = catalogue.connection.total_changes
    catalogue.connection.executemany("insert or ignore into tags values (?, ?)", ((id, tag) for id in ids))
    return catalogue.connection.total_changes - before


def remove_tag(catalogue: Catalogue, tag: str, ids: Iterable[int]) -> int:
    """Take a tag from images, and return how many had it; the caller commits."""
    before = catalogue.connection.total_changes
    catalogue.connection.executemany("delete from tags where image = ? and tag = ?", ((id, tag) for id in ids))
    return catalogue.connection.total_changes - before


def count_tags(catalogue: Catalogue) -> dict[str, int]:
    """Return how many images that are shown have each tag, the most frequent first, then by name."""
    if catalogue.version < SINCE:
        return {}
    query = """select tag, count(*) from tags join images on images.id = tags.image where present
               group by tag order by 2 desc, 1"""
    return dict(catalogue.connection.rows((str, int), query))


def of_images(catalogue: Catalogue) -> dict[int, tuple[str, ...]]:
    """Return the tags, in the order of their names, of every image that has any."""
    found: dict[int, tuple[str, ...]] = {}
    if catalogue.version >= SINCE:
        for id, tag in catalogue.connection.rows((int, str), "select image, tag from tags order by image, tag"):
            found[id] = (*found.get(id, ()), tag)
    return found


def described(catalogue: Catalogue) -> Described:
    """Return the metadata (key → value) of every image that has any."""
    found: Described = {}
    if catalogue.version >= SINCE:
        query = "select image, key, value from metadata order by image, key"
        for id, key, value in catalogue.connection.rows((int, str, VALUE), query):
            found.setdefault(id, {})[key] = value
    return found


def keys(catalogue: Catalogue) -> list[str]:
    """Return the keys of metadata, in the order of their names."""
    query = "select distinct key from metadata order by key"
    return [key for (key,) in catalogue.connection.rows((str,), query)] if catalogue.version >= SINCE else []


def describe(catalogue: Catalogue, header: Sequence[str], rows: Mapping[int, Sequence[Value | None]]) -> None:
    """Record a row of values, one for each key of the header, of images; None takes the value away; the caller commits.

    A key that is known in another spelling (ABC for abc) keeps the known one, as a condition does not tell them apart.
    """
    known = {key.casefold(): key for key in keys(catalogue)}
    spelt = [known.get(key.casefold(), key) for key in header]
    run = catalogue.connection.executemany
    every = [(id, key, value) for id, row in rows.items() for key, value in zip(spelt, row, strict=True)]
    run("delete from metadata where image = ? and key = ?", ((id, key) for id, key, _ in every))
    run("insert into metadata values (?, ?, ?)", (row for row in every if row[2] is not None))
