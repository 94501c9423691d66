"""Nodes and commands may die at any moment of `add --ray`: what was committed stays, and nothing is there twice."""

from __future__ import annotations

import pytest
from cluster import ROUNDS, run
from ray_nodes import why_not


@pytest.mark.skipif(why_not() is not None, reason=f"there can be no nodes of a Ray cluster here: {why_not()}")
def test_an_index_outlives_the_deaths_of_nodes() -> None:
    figures = run("ci")
    assert figures["lost"] == []
    assert figures["over Ray"]["rounds"] == ROUNDS["ci"]
