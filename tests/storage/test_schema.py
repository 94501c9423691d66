"""A catalogue whose tables are not those of imgindex is refused before any query runs on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from damaged_catalogues import HOSTILE, edit

from imgindex import ImageIndex
from imgindex.errors import IndexDamaged


@pytest.mark.parametrize("what", HOSTILE)
def test_a_catalogue_with_a_foreign_schema_is_refused_before_a_query_runs(home: Path, what: str) -> None:
    edit(home, *HOSTILE[what].split("; ") if what == "a view" else [HOSTILE[what]])
    (home / "catalogue.db.crc32").unlink()  # as the sender of such an index would
    with pytest.raises(IndexDamaged, match="was not made by imgindex") as caught:
        ImageIndex.open(home)
    assert "imgindex repair" in caught.value.hint
