"""Any name, time, size and link that a file system allows is stored, found, compared and removed as what it is."""

from __future__ import annotations

from names import ROUNDS, run


def test_the_index_agrees_with_the_disk_whatever_the_names_and_numbers() -> None:
    figures = run("ci")
    assert figures["lost"] == []
    assert figures["rounds"] == ROUNDS["ci"]
    assert figures["ways to write a path"] >= 100
