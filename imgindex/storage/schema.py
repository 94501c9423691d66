"""The catalogue's tables, as numbered steps that are never changed once released, and whether they are still ours."""

from __future__ import annotations

import sqlite3
from functools import cache

from imgindex.errors import IndexDamaged

INITIAL = """
-- recipe (JSON), store (float32 or float16), weights (where they are found again), created_at
create table settings (
    key text primary key,
    value text not null
) without rowid;
-- path: relative to the folder that holds the index where it lies under it; a blob where it is not UTF-8
create table images (
    id integer primary key autoincrement,
    path not null unique,
    size integer not null,
    mtime_ns integer not null,
    sha256 blob not null,
    width integer not null,
    height integer not null,
    format text not null,
    segment integer not null references segments(number),
    row integer not null,
    crc32 integer not null,
    present integer not null default 1,
    added_at text not null,
    unique (segment, row)
);
create index images_by_content on images(sha256);
create table segments (
    number integer primary key,
    rows integer not null
);
create table failures (
    path not null primary key,
    size integer not null,
    mtime_ns integer not null,
    stage text not null,
    reason text not null,
    tried_at text not null
) without rowid;
create table roots (
    path not null primary key,
    added_at text not null
) without rowid;
create table runs (
    id integer primary key,
    command text not null,
    started_at text not null,
    seconds real not null,
    report text not null
);
pragma user_version = 1
"""

# derived: files that can be made again from the segments; covered (JSON): segment number → rows that it was made of;
# receipt (JSON): what it is and how good. roots.mount: where its disk was mounted when it was last added.
DERIVED = """
create table derived (
    name text primary key,
    size integer not null,
    sha256 blob not null,
    covered text not null,
    receipt text not null,
    made_at text not null
) without rowid;
alter table roots add column mount;
pragma user_version = 2
"""

# clusterings: k-means runs that are kept. receipt (JSON): what it was made of and how; clusters: ids, in the order of
# labels, of what lasts from one clustering to the next, and may have a name; centroids: float32 rows; members, paths
# and details: the images as they were then, sample: the submission that it was made like, see clusterings.py.
# assigned: images that were put into its clusters later.
# What a person says of an image: tags, and values by the columns of a table that was imported.
CLUSTERINGS = """
create table clusterings (
    id integer primary key autoincrement,
    made_at text not null,
    receipt text not null,
    clusters text not null,
    centroids blob not null,
    members blob not null,
    paths blob not null,
    details blob,
    sample blob
);
create table clusters (
    id integer primary key autoincrement,
    name text unique
);
create table assigned (
    clustering integer not null references clusterings(id) on delete cascade,
    image integer not null,
    label integer not null,
    crc32 integer not null,
    primary key (clustering, image)
) without rowid;
create table tags (
    image integer not null references images(id) on delete cascade,
    tag text not null,
    primary key (image, tag)
) without rowid;
create table metadata (
    image integer not null references images(id) on delete cascade,
    key text not null,
    value not null,
    primary key (image, key)
) without rowid;
pragma user_version = 3
"""

STEPS = {1: INITIAL, 2: DERIVED, 3: CLUSTERINGS}
NEWEST = max(STEPS)


def statements(step: int) -> list[str]:
    """Return the statements of one step, in their order."""
    return STEPS[step].split(";\n")


def check_schema(connection: sqlite3.Connection, version: int) -> None:
    """Raise IndexDamaged unless the catalogue has exactly our tables, and nothing that acts by itself.

    A view, a trigger or a generated column in somebody else's catalogue would run what they wrote.
    """
    found = _objects(connection)
    wanted = _wanted(version)
    tables = {table for _, _, table, _ in wanted}
    strangers = [thing for thing in found - wanted if thing[0] == "trigger" or thing[1] in tables or thing[2] in tables]
    if wanted - found or strangers:
        name = min([*(wanted - found), *strangers], key=lambda thing: thing[1])[1]
        raise IndexDamaged(f"the catalogue's {name!r} is not what imgindex made")


@cache
def _wanted(version: int) -> frozenset[tuple[str, str, str, str]]:
    connection = sqlite3.connect(":memory:")
    try:
        for step in range(1, version + 1):
            for statement in statements(step):
                connection.execute(statement)
        return frozenset(_objects(connection))
    finally:
        connection.close()


def _objects(connection: sqlite3.Connection) -> set[tuple[str, str, str, str]]:
    """Type, name, table and definition of everything that was made by a statement."""
    return set(connection.execute("select type, name, tbl_name, sql from sqlite_master where sql is not null"))
