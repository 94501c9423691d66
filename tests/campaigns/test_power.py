"""Neither death nor a power failure, at any moment of a run, takes what the index has acknowledged."""

from __future__ import annotations

import pytest
from power import FAULTS, FOUND, missing, run


def test_an_index_outlives_every_moment_of_a_run() -> None:
    if reason := missing():
        pytest.skip(f"{reason}: runs cannot be recorded")
    figures = run("ci")
    assert figures["lost"] == []
    assert figures["segments"] >= 2
    recorded, points = figures["recorded"], figures["points"]
    assert recorded["write"] > 100
    assert recorded["sync"] > 20
    assert points["death"] > 15
    assert points["death in a write"] > 10
    assert sum(count for kind, count in points.items() if kind.startswith("power")) > 50
    assert points["again: death"] > 0
    assert points["again: power"] > 20
    assert points["fault"] == sum(figures["faults"].values()) == FAULTS + len(FOUND)
    assert figures["faults"].get("told", 0) > 0
