"""Catalogues that are changed behind imgindex's back, and their repair."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from grid_mean import GridMean

from imgindex import ImageIndex


def edit(home: Path, *statements: str) -> None:
    """Change the catalogue behind imgindex's back, and leave it without a log."""
    with closing(sqlite3.connect(home / "catalogue.db")) as connection:
        connection.execute("pragma journal_mode = delete")
        connection.execute("pragma writable_schema = on")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


HOSTILE = {
    "a trigger": "create trigger t after update on images begin delete from segments; end",
    "a view": "alter table failures rename to f; create view failures as select * from f",
    "a generated column": "alter table images add column twice integer generated always as (width * 2) virtual",
    "another index": "create index mine on images(width)",
    "a table less": "drop table roots",
    "another definition": "update sqlite_master set sql = replace(sql, 'width', 'breadth') where name = 'images'",
}


def repair(home: Path) -> None:
    report = ImageIndex.repair(home, encoder=GridMean())
    assert report.mended
    with ImageIndex.open(home) as index:
        assert index.verify(full=True).ok
