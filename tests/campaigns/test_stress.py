"""Several processes write to one index in turn while others read, and none is disturbed."""

from __future__ import annotations

from stress import ROLES, run

READING = ("similar", "whole", "export", "cluster", "verify", "lists")
WRITING = ("add", "remove", "compact", "repair")


def test_readers_and_writers_do_not_disturb_each_other() -> None:
    figures = run("ci")
    assert figures["lost"] == []
    assert figures["processes"] == len(ROLES) == 4
    done = figures["done"]
    assert min(done.get(kind, 0) for kind in READING) >= 1
    assert min(done.get(kind, 0) + done.get(f"{kind} with wait", 0) for kind in WRITING) >= 1
    assert sum(count for kind, count in done.items() if kind.startswith("picture")) >= 2
