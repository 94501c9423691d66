"""The catalogue's schema, as numbered steps that are never changed once released."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlite_utils import Database, Migrations

migrations = Migrations("imgindex")


@migrations()  # type: ignore[untyped-decorator]
def m001_initial(db: Any) -> None:
    """Settings, images, segments, failures, roots, runs."""
    for statement in INITIAL.split(";\n"):
        db.execute(statement)


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


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a catalogue to the newest schema, each step in a transaction of its own."""
    migrations.apply(Database(connection, recursive_triggers=False, execute_plugins=False))
