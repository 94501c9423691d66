"""The last door: what is said of an error that no command expected."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from imgindex.cli import app


def test_a_disk_that_is_full_for_the_catalogue_is_named_as_any_other_full_disk(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as full:
        full.execute("pragma max_page_count = 1")
        with pytest.raises(sqlite3.OperationalError) as error:
            full.execute("create table images (id)")
    assert app._report(error.value) == 1
    said = capsys.readouterr().err
    assert said.startswith("imgindex: error: No space left on device; ")
    assert said.count("\n") == 1
