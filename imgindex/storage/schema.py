"""Defines the catalogue's tables in numbered steps, and checks that a catalogue has exactly these tables.

A step is never changed once it is released.
"""

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
# receipt (JSON): what it is and how good it is. roots.mount: mount point of its disk when it was last added.
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

# clusterings: k-means runs. receipt (JSON): parameters and results; clusters (JSON): for each label the id of a cluster
# that may continue in later clusterings and may have a name; centroids: float32 rows; members, paths and details: the
# images as they were then; sample: the sample submission whose format was copied; see clusterings.py.
# assigned: images that were assigned to its clusters later.
# tags, metadata: what a person recorded about an image; metadata has the values of imported tables by column.
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

# ctime_ns, inode: further numbers by which a scan notices that a file was replaced; null: not recorded.
# real_path: where the file is, if links lead to it on the way along path; null: along path itself.
# blank: 1 if the picture has one colour or nearly so; hashes: a byte with their version, then perceptual hashes of 64
# bits, or the digest of all pixels of a blank picture; null: not computed yet. failures.decoder: the module whose
# absence caused the failure.
# comparisons: pairs of contents, by their SHA-256, whose pixels were compared. turned: the rotation or mirroring of the
# second picture, "" for none; method: the version of the comparison; copy: 1 if both show the same picture; score: what
# the decision was made from.
# other_files: files whose names have no ending, and which are not images by their first bytes: a scan opens them once.
DUPLICATES = """
alter table images add column ctime_ns integer;
alter table images add column inode integer;
alter table images add column real_path;
create index images_by_real_path on images(real_path) where real_path is not null;
alter table images add column hashes blob;
alter table images add column blank integer;
alter table failures add column decoder text;
alter table failures add column ctime_ns integer;
alter table failures add column inode integer;
create table comparisons (
    first blob not null,
    second blob not null,
    turned text not null,
    method integer not null,
    copy integer not null,
    score real not null,
    primary key (first, second, turned)
) without rowid;
create table other_files (
    path not null primary key,
    size integer not null,
    mtime_ns integer not null,
    ctime_ns integer,
    inode integer
) without rowid;
pragma user_version = 4
"""

# version: what the source of a file gives another value when the content changes; null for files of this machine.
VERSIONS = """
alter table images add column version text;
alter table failures add column version text;
alter table other_files add column version text;
pragma user_version = 5
"""

STEPS = {1: INITIAL, 2: DERIVED, 3: CLUSTERINGS, 4: DUPLICATES, 5: VERSIONS}
NEWEST = max(STEPS)


def statements(step: int) -> list[str]:
    """Return the statements of one step in their order."""
    return STEPS[step].split(";\n")


def create(connection: sqlite3.Connection, version: int = NEWEST) -> None:
    """Create the tables of a version in an empty catalogue, within the caller's transaction."""
    for step in range(1, version + 1):
        for statement in statements(step):
            connection.execute(statement)


def check_schema(connection: sqlite3.Connection, version: int) -> None:
    """Raise IndexDamaged unless the catalogue has exactly the tables of this version, and no triggers.

    A view, a trigger or a generated column in a catalogue from elsewhere would run code of its author.
    """
    found = _objects(connection)
    wanted = _wanted(version)
    tables = {table for _, _, table, _ in wanted}
    foreign = [one for one in found - wanted if one[0] == "trigger" or one[1] in tables or one[2] in tables]
    if wanted - found or foreign:
        name = min([*(wanted - found), *foreign], key=lambda one: one[1])[1]
        raise IndexDamaged(f"the catalogue is damaged: {name!r} in its schema was not made by imgindex")


@cache
def _wanted(version: int) -> frozenset[tuple[str, str, str, str]]:
    connection = sqlite3.connect(":memory:")
    try:
        create(connection, version)
        return frozenset(_objects(connection))
    finally:
        connection.close()


def _objects(connection: sqlite3.Connection) -> set[tuple[str, str, str, str]]:
    """Return type, name, table and definition of everything in the schema that has a definition."""
    return set(connection.execute("select type, name, tbl_name, sql from sqlite_master where sql is not null"))
