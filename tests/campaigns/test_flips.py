"""The campaign `flips` in its small size: no wrong answer without an error, and every damage can be repaired."""

from __future__ import annotations

from flips import FLIPS, REPAIRS, run


def test_a_damaged_index_gives_true_answers_or_an_error_and_can_be_repaired() -> None:
    figures = run("ci")
    assert figures["lost"] == []
    assert figures["flips"] >= FLIPS["ci"] * 0.99
    verdicts = figures["verdicts"]
    assert verdicts["flip"]["refused"] > figures["flips"] / 2
    assert verdicts["flip"]["right"] > figures["flips"] / 20
    assert verdicts["flip"]["earlier"] > 10
    assert figures["other_damages"] > 150
    assert {kind for kind, found in verdicts.items() if "refused" in found} >= {
        "cut short",
        "made longer",
        "page overwritten",
        "page doubled",
        "pages swapped",
        "rows swapped",
        "row doubled",
        "row zeroed",
        "deleted",
        "files swapped",
        "file of another index",
        "file of another time",
        "something else in its place",
    }
    assert not any("wrong" in found for kind, found in verdicts.items() if kind != "log of another catalogue")
    repairs = figures["repairs"]
    assert sum(repairs[outcome] for outcome in ("mended", "sound", "refused")) >= sum(REPAIRS["ci"]) * 0.99
    assert repairs["mended"] > 10
