"""A full disk, a read-only disk and a limit are reported in one line, and nothing in the index is lost."""

from __future__ import annotations

import pytest
from disks import LIMITS, run


def test_an_index_outlives_full_and_read_only_disks() -> None:
    figures = run("ci")
    assert figures["lost"] == []
    tried = figures["tried"]
    assert tried["limit on files: add failed"] + tried.get("limit on files: add fitted", 0) == LIMITS["ci"]
    assert tried["other people's: read"] == 8
    assert tried["other people's: write"] >= 2
    if not figures["disks mounted"]:
        pytest.skip("disks cannot be mounted here: the full and the read-only ones were not tried")
    assert tried["full disk: add failed"] >= 1
    assert tried["full disk: remove failed"] >= 1
    assert tried["new index on a full disk: failed"] >= 1
    assert tried["no more files: add failed"] >= 1
    assert tried["read-only disk: read"] == 8
    assert tried["read-only disk: write"] >= 2
