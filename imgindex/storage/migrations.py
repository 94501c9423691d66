"""Migrates an old catalogue to the newest schema, step by step; the only file that imports sqlite-utils.

A new catalogue has all steps from the start: see `schema.create`.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlite_utils import Database, Migrations

from imgindex.storage import schema

migrations = Migrations("imgindex")


@migrations()  # type: ignore[untyped-decorator]
def m001_initial(db: Any) -> None:
    """Settings, images, segments, failures, roots, runs."""
    _run(db, 1)


@migrations()  # type: ignore[untyped-decorator]
def m002_derived(db: Any) -> None:
    """Derived files; the mount point of a root."""
    _run(db, 2)


@migrations()  # type: ignore[untyped-decorator]
def m003_clusterings(db: Any) -> None:
    """Clusterings, the names of their clusters, tags and metadata of images."""
    _run(db, 3)


@migrations()  # type: ignore[untyped-decorator]
def m004_duplicates(db: Any) -> None:
    """Numbers and hashes of files, compared pairs, and the decoders that failures lacked."""
    _run(db, 4)


@migrations()  # type: ignore[untyped-decorator]
def m005_versions(db: Any) -> None:
    """The versions of files that are in archives."""
    _run(db, 5)


def _run(db: Any, step: int) -> None:
    # sqlite-utils has no record of the steps of a catalogue that was made with all of them.
    if db.execute("pragma user_version").fetchone()[0] >= step:
        return
    for statement in schema.statements(step):
        db.execute(statement)


def migrate(connection: sqlite3.Connection) -> None:
    """Migrate a catalogue to the newest schema, within the caller's transaction."""
    migrations.apply(Database(connection, recursive_triggers=False, execute_plugins=False))
