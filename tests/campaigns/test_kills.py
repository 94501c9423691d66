"""`kill -9` at any moment of `imgindex add` loses at most the batch in flight."""

from __future__ import annotations

from kills import KILLS, run


def test_an_index_outlives_kills_at_random_moments() -> None:
    figures = run("ci")
    assert figures["lost"] == []
    for over in (figures["over files"], figures["over an archive"]):
        assert over["kills"] == KILLS["ci"] == over["killed"] + over.get("ended before", 0)
        assert over["killed"] >= KILLS["ci"] // 2
        assert over["different numbers of images found"] >= 2
