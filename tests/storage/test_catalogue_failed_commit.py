"""A commit that failed must not come back: SQLite's log may hold it whole, and its rows be given to others."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from grid_mean import GridMean

from imgindex import ImageIndex
from imgindex.storage import durable
from imgindex.storage.catalogue import Catalogue


def test_a_failed_commit_is_overwritten(index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buried: list[str] = []
    bury = Catalogue.void_commit
    monkeypatch.setattr(Catalogue, "void_commit", lambda self: (buried.append(self.path), bury(self))[1])

    class Full(durable.Disk):
        def execute(self, path: str, connection: sqlite3.Connection, statement: str) -> None:
            if statement == "commit" and not buried:
                connection.execute("rollback")
                raise sqlite3.OperationalError("disk I/O error")
            super().execute(path, connection, statement)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "disk", Full())
        with pytest.raises(sqlite3.OperationalError):
            index.add([folder])
    assert len(buried) == 1
    assert "last_failed_commit" in index._store.catalogue.settings()
    assert index.add([folder]).added == 12
    assert index.verify(full=True).ok


def test_a_full_disk_while_an_index_is_created_is_reported_as_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(durable.Disk):
        def execute(self, path: str, connection: sqlite3.Connection, statement: str) -> None:
            connection.execute("rollback")
            raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "disk", Full())
        with pytest.raises(sqlite3.OperationalError, match="full"):
            ImageIndex.create(tmp_path / "new.imgindex", encoder=GridMean())
    ImageIndex.create(tmp_path / "new.imgindex", encoder=GridMean()).close()
