"""`kill -9` at any moment of `imgindex add` loses at most the batch in flight."""

from __future__ import annotations

from kills import KILLS, run
from object_store import find_weed


def test_an_index_outlives_kills_at_random_moments() -> None:
    figures = run("ci")
    assert figures["lost"] == []
    assert ("over a store" in figures) == (find_weed() is not None)
    for over in (value for name, value in figures.items() if name.startswith("over ")):
        assert over["kills"] == KILLS["ci"] == over["killed"] + over.get("ended before", 0)
        assert over["killed"] >= KILLS["ci"] // 2
        assert over["different numbers of images found"] >= 2
