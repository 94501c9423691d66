"""A catalogue with missing or impossible settings."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from imgindex import ImageIndex
from imgindex.errors import IndexDamaged


@pytest.mark.parametrize(
    "statement",
    [
        "delete from settings where key = 'recipe'",
        "update settings set value = '{}' where key = 'recipe'",
        "update settings set value = '[1' where key = 'recipe'",
        "update settings set value = 'many' where key = 'dimension'",
        "update settings set value = 'pickle' where key = 'store'",
    ],
)
def test_missing_or_impossible_settings_are_damage(index: ImageIndex, statement: str) -> None:
    index.close()
    connection = sqlite3.connect(Path(index.path, "catalogue.db"))
    with connection:
        connection.execute(statement)
    connection.close()
    with pytest.raises(IndexDamaged):
        ImageIndex.open(index.path)
